"""Takes amoCRM's webhooks and hands each body to the database: one WSGI function, see docs/webhooks.md.

HOOK_SECRET     last part of the address that amoCRM was given
HOOK_DSN        how to reach the database, as a role that may call hook.take() and nothing else
"""

import hmac
import os
import re

import psycopg2

SECRET = os.environ["HOOK_SECRET"]
DSN = os.environ["HOOK_DSN"]
LARGEST = 1 << 20           # as in regcrm.read_webhook()

connection = None


def take(body: str) -> None:
    """One call, one transaction.  amoCRM waits two seconds for an answer."""
    global connection
    if connection is None or connection.closed:
        connection = psycopg2.connect(DSN, connect_timeout=2, options="-c statement_timeout=1500 -c lock_timeout=1000")
        connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT hook.take(%s)", (body,))


def answer(environ) -> str:
    if not hmac.compare_digest(environ.get("PATH_INFO", "").rpartition("/")[2].encode(), SECRET.encode()):
        return "404 Not Found"
    if environ["REQUEST_METHOD"] != "POST":
        return "405 Method Not Allowed"
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > LARGEST:
        return "413 Content Too Large"
    # bytes that should have been encoded, are: nothing is lost, and it is text in any case
    body = re.sub(rb"[^\x21-\x7e]", lambda byte: b"%%%02X" % byte[0][0], environ["wsgi.input"].read(length)).decode("ascii")
    for last in (False, True):
        try:
            take(body)
            return "200 OK"
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            # the server was restarted: once more on a new connection
            if connection is not None:
                connection.close()
            if last:
                print(f"hook: {type(error).__name__}", file=environ["wsgi.errors"])
        except psycopg2.Error as error:
            print(f"hook: {error.pgcode}", file=environ["wsgi.errors"])
            break
    return "503 Service Unavailable"        # amoCRM comes again: after 5, 15, 15 minutes, an hour


def application(environ, start_response):
    status = answer(environ)
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return [b""]
