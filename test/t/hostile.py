#!/usr/bin/python3
"""A server that answers badly on purpose, for 036_hostile_server.pl.

usage: hostile.py PORT_FILE LOG [CERTIFICATE KEY]

The bearer token says how it answers.  Each request is a line in LOG: port, path, token.  Two ports are opened;
a redirect leads from the first to the second.  Loopback only.
"""

import gzip
import os
import socket
import ssl
import sys
import threading
import time

LIMIT = 64 << 20            # no answer is longer
BOMB = gzip.compress(b" " * LIMIT)


def header(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def send_for_long(peer: socket.socket, piece: bytes) -> None:
    sent = 0
    while sent < LIMIT:
        peer.sendall(piece)
        sent += len(piece)


def answer(peer: socket.socket, token: str, other: int) -> None:
    json = "Content-Type: application/json"
    if token == "silent":
        time.sleep(30)
    elif token == "drip":
        peer.sendall(header(json, "Content-Length: 1000"))
        for _ in range(30):
            peer.sendall(b" ")
            time.sleep(1)
    elif token == "half":
        peer.sendall(header(json, "Content-Length: 1000") + b'{"id":')
        time.sleep(30)
    elif token == "endless":
        peer.sendall(header(json, "Transfer-Encoding: chunked"))
        piece = b" " * 65536
        send_for_long(peer, b"%x\r\n%s\r\n" % (len(piece), piece))
    elif token == "bomb":
        peer.sendall(header(json, "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}") + BOMB)
    elif token == "header":
        peer.sendall(b"HTTP/1.1 200 OK\r\n")
        send_for_long(peer, b"X-Padding: " + b"x" * 8000 + b"\r\n")
    elif token == "nonsense":
        peer.sendall(b"\x00\x01\x02 what? \r\n\r\n" * 20)
    elif token.startswith("redirect"):
        to = {"redirect-port": f"http://127.0.0.1:{other}/api/v4/account", "redirect-self": "/api/v4/account",
              "redirect-file": "file:///etc/passwd"}[token]
        peer.sendall(header(f"Location: {to}", "Content-Length: 0", status="302 Found"))
    elif token == "echo":
        body = f"you sent {token}_canary".encode()
        peer.sendall(header("Content-Type: text/plain", f"Content-Length: {len(body)}", status="400 Bad Request") + body)
    elif token.startswith("echo_"):
        body = f"you sent Bearer {token} and that is wrong".encode()
        peer.sendall(header("Content-Type: text/plain", f"Content-Length: {len(body)}", status="400 Bad Request") + body)
    elif token == "nul":
        body = b'{"id": 5, "name": "a\x00b"}'
        peer.sendall(header(json, f"Content-Length: {len(body)}") + body)
    elif token == "retry":
        peer.sendall(header("Retry-After: 3600", "Content-Length: 0", status="429 Too Many Requests"))
    else:
        body = b'{"id": 5, "name": "x", "subdomain": "x"}'
        peer.sendall(header(json, f"Content-Length: {len(body)}") + body)


def serve(peer: socket.socket, port: int, other: int, log: str, context) -> None:
    try:
        if context:
            peer = context.wrap_socket(peer, server_side=True)
        asked = b""
        while b"\r\n\r\n" not in asked and len(asked) < 65536:
            piece = peer.recv(65536)
            if not piece:
                return
            asked += piece
        lines = asked.decode("latin-1").split("\r\n")
        token = next((line.split()[-1] for line in lines if line.lower().startswith("authorization:")), "none")
        with open(log, "a") as file:
            file.write(f"{port} {lines[0].split()[1]} {token}\n")
        answer(peer, token, other)
    except OSError:
        pass
    finally:
        peer.close()


def listen(server: socket.socket, other: int, log: str, context) -> None:
    while True:
        peer, _ = server.accept()
        threading.Thread(target=serve, args=(peer, server.getsockname()[1], other, log, context), daemon=True).start()


def main() -> None:
    port_file, log, *files = sys.argv[1:]
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [server.getsockname()[1] for server in servers]
    for server, other in zip(servers, reversed(ports)):
        threading.Thread(target=listen, args=(server, other, log, context), daemon=True).start()
    with open(port_file + ".new", "w") as file:
        file.write(" ".join(map(str, ports)))
    os.rename(port_file + ".new", port_file)
    time.sleep(600)             # a test that died leaves nothing behind for long


if __name__ == "__main__":
    main()
