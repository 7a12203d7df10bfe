"""COPY of a year's history in mode record, judged, beside the same COPY without regcrm plus COPY of the ledger rows it yields.

One transaction each: deals, their tasks, their events, in the order in which the tables were filled; then, without regcrm, the
rows of deadline, violation and next_moment that the first side wrote.  Same tables, same indexes; tables are emptied in between.
"""
import os
import time

import generate
from lib import OUT, at_most, connect, interleaved, psql, say, scaled

REPEATS = 3
FACTS = ("deal", "task", "event")
LEDGER = ("deadline", "violation", "next_moment")


def copy(tables, mode):
    return ("set regcrm.mode = '%s';\nset regcrm.account_id = %d;\nbegin;\n" % (mode, generate.ACCOUNT)
            + "".join("\\copy regcrm.%s from '%s/load_%s'\n" % (table, OUT, table) for table in tables) + "commit;\n")


def empty(database):
    psql(database, "set regcrm.mode = 'off'; truncate %s; checkpoint;" % ", ".join("regcrm." + table for table in FACTS + LEDGER))


def run():
    source = generate.warehouse(scaled(50_000, 2000))
    for table in FACTS:
        psql(source, "\\copy regcrm.%s to '%s/load_%s'\n" % (table, OUT, table))
    generate.create("load")
    with connect("load") as cur:
        cur.execute("insert into regcrm.account (id, name, calendar) values (%s, 'load', 'daily-9-20')", (generate.ACCOUNT,))
    generate.create("load_plain", "load")
    with connect("load_plain") as cur:
        cur.execute("select format('drop trigger %%I on %%s', tgname, tgrelid::regclass) from pg_trigger"
                    " where tgname like 'regcrm%%' and tgrelid = any (%s::regclass[])", (["regcrm." + table for table in FACTS + LEDGER],))
        for drop, in cur.fetchall():
            cur.execute(drop)

    empty("load")
    psql("load", copy(FACTS, "record"))
    counts = {}
    with connect("load") as cur:
        for table in FACTS + LEDGER:
            cur.execute("select count(*) from regcrm." + table)
            counts[table] = cur.fetchone()[0]
        cur.execute("select count(*) from regcrm.event where source is distinct from 'regcrm'")
        counts["event"] = cur.fetchone()[0]
    say("load: " + ", ".join("%d %s" % (n, table) for table, n in counts.items()))
    for table in LEDGER:
        psql("load", "\\copy regcrm.%s to '%s/load_%s'\n" % (table, OUT, table))

    def side(database, script):
        empty(database)
        began = time.perf_counter()
        psql(database, script)
        return time.perf_counter() - began
    median, _ = interleaved(REPEATS, regcrm=lambda: side("load", copy(FACTS, "record")),
                            plain=lambda: side("load_plain", copy(FACTS + LEDGER, "off")))
    at_most("COPY of %d events of %d deals in mode record, judged" % (counts["event"], counts["deal"]),
            "the same COPY without regcrm plus COPY of its %d ledger rows" % sum(counts[table] for table in LEDGER),
            median["regcrm"], median["plain"], "s", 2)
    for table in FACTS + LEDGER:
        os.unlink("%s/load_%s" % (OUT, table))
