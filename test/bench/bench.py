"""Runs the programs of this folder and prints their table; started by test/bench/run."""
import datetime
import importlib
import sys

import lib

PROGRAMS = ["gate", "load", "rejudge", "point", "space", "views", "judge", "growth"]


def main():
    names = sys.argv[1:] or PROGRAMS
    if unknown := [name for name in names if name not in PROGRAMS]:
        sys.exit("unknown: %s; there are: %s" % (", ".join(unknown), ", ".join(PROGRAMS)))
    head = ["%s, test/bench/run %s, BENCH_SCALE=%g" % (datetime.date.today(), " ".join(sys.argv[1:]), lib.SCALE)] + lib.machine()
    for line in head:
        lib.say(line)
    failed = []
    for name in names:
        lib.say("== " + name)
        try:
            importlib.import_module("row_" + name).run()
        except Exception as failure:            # the others are worth having
            failed.append(name)
            lib.say("%s FAILED: %s: %s" % (name, type(failure).__name__, failure))
            import traceback
            traceback.print_exc()
        lib.write_results(head)
    print("\n" + "\n".join(head) + "\n\n" + lib.table())
    sys.exit("failed: " + ", ".join(failed) if failed else 0)


main()
