#!/usr/bin/python3
"""Eight writers over a hundred deals, all at once.  Statements write many deals
in whatever order; plain inserts of events conflict with nobody, so a deadlock
would be of the gate's making.  In the end no deal is in breach of a rule that
rejects, and the ledger is what judge finds.

    load_test.py [--seconds 8] [--seed 1]
"""
import argparse
import random
import threading
import time

import psycopg2
import psycopg2.extras

from story import ACCOUNT, Bases, Tap, breaches, completing, connect, move, random_acts, start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tap = Tap()
    admin, writer = start()
    bases = Bases(admin)
    r = random.Random(options.seed)
    deals = [bases.make(r.choice(["new", "messaging", "deciding", "meeting", "contract", "lost"]), chat=False) for _ in range(100)]
    seen = {}
    lock = threading.Lock()
    until = time.time() + options.seconds

    def note(outcome):
        with lock:
            seen[outcome] = seen.get(outcome, 0) + 1

    def events(cur, r):
        """Rows of many deals in random order, in one statement."""
        some = [r.choice(deals) for _ in range(r.randint(1, 12))]
        psycopg2.extras.execute_values(cur, "insert into regcrm.event (account_id, deal_id, kind, body) values %s",
                                       [(ACCOUNT, d, "comment", "x") for d in some])

    def names(cur, r):
        cur.execute("update regcrm.deal set name = %s where account_id = %s and id = %s", (str(r.random()), ACCOUNT, r.choice(deals)))

    def moves(cur, r):
        deal = r.choice(deals)
        cur.execute("select stage::text from regcrm.deal where account_id = %s and id = %s", (ACCOUNT, deal))
        here = cur.fetchone()[0]
        there = r.choice(["in_work", "messaging", "deciding", "meeting", "contract", "lost"])
        for act in completing(here, there) + [move(there)]:
            act(cur, deal)

    def single(cur, r):
        deal = r.choice(deals)
        for act in random_acts(r, 4):
            act(cur, deal)

    def work(number):
        r = random.Random(options.seed * 100 + number)
        connection = connect(role="regcrm_writer")
        cur = connection.cursor()
        while time.time() < until:
            what = r.choice([events, events, names, moves, single])
            try:
                if r.random() < 0.3:
                    cur.execute("set transaction isolation level " + r.choice(["repeatable read", "serializable"]))
                what(cur, r)
                connection.commit()
                note("commits")
            except psycopg2.Error as error:
                connection.rollback()
                note(error.pgcode)
                if error.pgcode not in ("23514", "40001"):
                    note(str(error))
        connection.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    told = sorted(seen.items(), key=lambda s: -s[1])
    print("# %s" % told[:6])
    tap.ok("40P01" not in seen, "nobody sees a deadlock", *told)
    tap.same({s for s in seen if len(str(s)) == 5} - {"23514", "40001"}, set(), "whoever does not commit is refused or told to begin again", *told)
    tap.ok(seen.get("commits", 0) > 200 and seen.get("23514", 0) > 20, "there was enough of both", *told)
    broken = {d: b for d in deals for b in [breaches(admin, d)] if b}
    tap.same(broken, {}, "no deal is in breach of a rule that rejects")
    cur = admin.cursor()
    cur.execute("select regcrm.flag_expired(clock_timestamp())")
    admin.commit()
    cur.execute("select (j).changed from regcrm.rejudge() j")
    tap.same(cur.fetchone()[0], 0, "and rejudge finds nothing to change")
    admin.commit()
    tap.done()


main()
