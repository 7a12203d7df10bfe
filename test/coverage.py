#!/usr/bin/python3
"""Reads what gcov counted below a tree: a table of all files of src/, and the
lines of GOAL that nothing reached.

usage: coverage.py TREE EXCEPTIONS

EXCEPTIONS holds, a line each, "FILE FUNCTION: TEXT | REASON": the lines of
FUNCTION that read TEXT (blanks around it apart) need not be reached.  Where a statement
takes several lines, its first stands for all.  Lines of an elog(ERROR) need
no exception: by the rules of this house it tells what can't happen.
"""
import collections
import json
import os
import re
import subprocess
import sys

# the judge, the calendar, the gate, the ledger
GOAL = ["calendar.c", "judge.c", "moves.c", "conditions.c", "visits.c", "happen.c", "holding.c",
        "answering.c", "duties.c", "findings.c", "gate.c", "gate_deal.c",
        "gate_enforce.c", "refusal.c", "ledger.c", "changes.c"]


def counts(tree):
    """{file: {line: count}} over all objects that left counts, and {(file, line): function}."""
    found = collections.defaultdict(lambda: collections.defaultdict(int))
    functions = {}
    for folder in ("src", "tmp_check/unit"):
        where = os.path.join(tree, folder)
        data = sorted(f for f in os.listdir(where) if f.endswith(".gcno"))
        for name in data:
            out = subprocess.run(["gcov", "--json-format", "--stdout", name], cwd=where,
                                 capture_output=True, check=False).stdout
            for line in out.splitlines():
                try:
                    report = json.loads(line)
                except ValueError:
                    continue
                for file in report["files"]:
                    base = os.path.basename(file["file"])
                    if os.path.exists(os.path.join(tree, "src", base)) and \
                            "/include/" not in file["file"]:
                        for entry in file["lines"]:
                            found[base][entry["line_number"]] += entry["count"]
                            functions[base, entry["line_number"]] = entry.get("function_name", "")
    return found, functions


def statements(source):
    """{line: (first, last)} of the statement that a line belongs to, by the
    semicolons and braces at the ends of lines."""
    spans, begin = {}, 1
    for number, text in enumerate(source, 1):
        bare = re.sub(r"/\*.*?\*/", "", text).rstrip()
        if re.search(r"[;{}:]$", bare) or not bare.strip() or \
                re.match(r"\s*(if|for|while|else|switch|do|case|default)\b", bare) and bare.count("(") == bare.count(")"):
            for line in range(begin, number + 1):
                spans[line] = (begin, number)
            begin = number + 1
    return spans


def main():
    tree, exceptions_file = sys.argv[1:]
    found, functions = counts(tree)
    if not found:
        print("nothing was counted")
        return 1
    exceptions, used, known = [], set(), set()
    for line in open(exceptions_file, encoding="utf-8"):
        line = line.strip()
        if line and not line.startswith("#"):
            place, reason = line.rsplit(" | ", 1)
            exceptions.append(tuple(place.split(": ", 1)))
            if not reason.strip():
                print(f"an exception without a reason: {line}")
                return 1
    total = hit = 0
    missing = []
    print(f"{'file':20} {'lines':>6} {'reached':>8}")
    for file in sorted(f for f in found if f.endswith(".c")):
        lines = found[file]
        reached = sum(1 for count in lines.values() if count)
        total += len(lines)
        hit += reached
        print(f"{file:20} {len(lines):6} {100 * reached / len(lines):7.1f} %" + (" *" if file in GOAL else ""))
        if file not in GOAL:
            continue
        source = open(os.path.join(tree, "src", file), encoding="utf-8").read().split("\n")
        known.update((f"{file} {functions[file, n]}", source[n - 1].strip()) for n in lines)
        spans = statements(source)
        for number in sorted(n for n, count in lines.items() if not count):
            first, last = spans.get(number, (number, number))
            statement = "\n".join(source[first - 1:last])
            if re.search(r"\belog\((ERROR|FATAL|PANIC)", statement):
                continue
            here = f"{file} {functions[file, number]}"
            reasons = [(here, source[n - 1].strip()) for n in range(first, last + 1)
                       if (here, source[n - 1].strip()) in exceptions]
            if reasons:
                used.update(reasons)
                continue
            missing.append(f"{file}:{number}: {source[number - 1].strip()}")
    print(f"{'all of src':20} {total:6} {100 * hit / total:7.1f} %")
    print("* every line of these, but for those in test/coverage-exceptions")
    for here, text in exceptions:
        if (here, text) not in known:
            missing.append(f"test/coverage-exceptions names a line that is not there: {here}: {text}")
    for here, text in sorted(set(exceptions) - used):
        if (here, text) in known:
            print(f"reached after all: {here}: {text}")
    for line in missing:
        print(f"not reached: {line}")
    print(f"{len(missing)} lines not reached that have no reason")
    return 1 if missing else 0


sys.exit(main())
