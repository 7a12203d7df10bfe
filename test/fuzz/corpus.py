#!/usr/bin/python3
"""Packs the inputs of a fuzzer into a file, one a line in base64, and unpacks them.

    corpus.py unpack corpus/judge.txt DIRECTORY
    corpus.py pack DIRECTORY corpus/judge.txt
"""
import base64
import hashlib
import pathlib
import sys


def unpack(packed, directory):
    directory.mkdir(parents=True, exist_ok=True)
    for line in packed.read_text().split():
        data = base64.b64decode(line, validate=True)
        (directory / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pack(directory, packed):
    lines = sorted(base64.b64encode(file.read_bytes()).decode() for file in directory.iterdir())
    packed.parent.mkdir(parents=True, exist_ok=True)
    packed.write_text("".join(line + "\n" for line in sorted(filter(None, lines), key=lambda x: (len(x), x))))


{"unpack": unpack, "pack": pack}[sys.argv[1]](*map(pathlib.Path, sys.argv[2:]))
