#!/usr/bin/python3
"""Random pairs of sessions on a deal: whatever they write, at whatever level and
in whatever interleaving, it ends as one of the two serial orders would.  The
same oracle as in concurrency_test.py, without anyone's idea of what may clash.

    random_pairs_test.py [--pairs 40] [--seed 1]
"""
import argparse
import itertools
import random

from concurrency_test import LEVELS, Pair, Pairs
from story import STAGES, Bases, Tap, completing, described, missed, move, random_acts, scenario, sql, start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tap = Tap()
    admin, writer = start()
    bases = Bases(admin)
    pairs = Pairs(tap, admin, "regcrm_writer")
    all_orders = sorted({"".join(o) for o in itertools.permutations("aaabbb")} - {"aaabbb", "bbbaaa"})
    count = {"both commit": 0, "one is refused": 0}
    for number in range(options.pairs):
        r = random.Random(options.seed * 10000 + number)
        here = r.choice(STAGES[:-1])
        make = dict(chat=here not in ("new", "in_work", "no_answer") and r.random() < 0.3)
        if here == "no_answer":
            make["misses"] = r.randint(0, 2)

        def writes():
            what = r.random()
            if what < 0.5:
                there = r.choice([s for s in STAGES if s != here])
                acts = completing(here, there, make["chat"])
                return r.sample(acts, r.randint(max(0, len(acts) - 1), len(acts))) + [move(there)]
            if what < 0.65:
                return [missed, scenario("no_answer")]
            if what < 0.75:
                return [sql("delete from regcrm.task where account_id = %(a)s and deal_id = %(d)s and completed_at is null")]
            return random_acts(r, 3)

        # now and then the first is a superuser in mode record, who is refused nothing
        pair = Pair("pair %d" % number, lambda: bases.make(here, **make), writes(), writes(), as_admin=r.choice(["", "", "a"]))
        level = r.choice(LEVELS)
        serial, alone = pairs.serial(pair, level)
        outcomes = {s[:2] for s in serial.values()}
        count["both commit" if outcomes == {("commits", "commits")} else "one is refused"] += 1
        wrong = [w for order in r.sample(all_orders, 4) for w in [pairs.unlike(pair, level, order, serial, alone, lenient=True)] if w]
        tap.ok(not wrong, "pair %d in %s, %s%s" % (number, here, level, ", the first in record" if pair.as_admin else ""), "a: " + described(pair.a), "b: " + described(pair.b),
               "serial orders: %s" % {o: s[:3] for o, s in serial.items()}, "alone: %s" % alone, *wrong)
    tap.ok(min(count.values()) > options.pairs // 20, "there were both kinds", count)
    tap.done()


main()
