#!/usr/bin/python3
"""The same script in both modes: what enforce refuses, record stores as
breaches of the same rules; what enforce lets pass, breaks nothing in record.

Every step of the script is one transaction on a deal of its own.  In record an
hour passes before the breaches are looked at, since tolerances count there and
not in enforce; nothing else happens in it.  Of an illegal move enforce says
only that it is one (DESIGN, section 4), so there record may hold more.

    modes_test.py [--random 250] [--seed 1]
"""
import argparse
import random

import rules_test
from story import (STAGES, Bases, Tap, attempt, breaches, completing, described, done, move, random_acts, skip, start,
                   task)


def script(number, seed):
    """(name, arguments of Bases.make, acts) of every step: the cases of rules_test, then random ones."""
    for code, base, bare, good in rules_test.CASES:
        make = dict(base[1]) if len(base) > 1 else {}
        name = "%s in %s" % (code, base[0])
        yield name + ", bare", base[0], make, bare, False
        yield name + ", completed", base[0], make, bare + list(good) if isinstance(good, set) else good, False
    r = random.Random(seed)
    for i in range(number):
        here = r.choice(STAGES)
        there = r.choice(STAGES)
        chat = here not in ("new", "in_work", "no_answer") and r.random() < 0.5
        make = {"chat": chat}
        acts = random_acts(r)
        if here != there and r.random() < 0.7:
            needed = completing(here, there, chat)
            acts += r.sample(needed, r.randint(max(0, len(needed) - 2), len(needed)))
            acts.insert(r.randint(0, len(acts)), move(there))
            acts += effects(here, there, chat)
        yield "step %d: %s%s" % (i, here, " after messaging" if chat else ""), here, make, acts, True


def effects(here, there, chat):
    """What the regulation's effects do about a move, written out: they act in enforce only."""
    if there == "won":
        return [done(), skip]
    if chat or here == there:
        return []
    acts = [done("process_request")] if here in ("new", "in_work") and there != "in_work" else []
    return acts + {"new": [task("process_request")], "in_work": [task("process_request")], "no_answer": [task("callback")]}.get(there, [])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--random", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tap = Tap()
    admin, writer = start()
    bases = Bases(admin)
    steps = []
    cur = admin.cursor()

    for name, here, make, acts, is_random in script(options.random, options.seed):
        refused = attempt(writer, bases.make(here, **make), acts)
        if refused is not None and refused.sqlstate != "23514":
            tap.ok(False, "%s: refused as a breach" % name, refused, described(acts))
            continue
        deal = bases.make(here, **make)
        failed = attempt(admin, deal, acts)
        if not tap.ok(failed is None, "%s: record takes it" % name, failed, described(acts)):
            continue
        steps.append((name, deal, acts, refused.rules if refused else []))

    cur.execute("select regcrm.flag_expired(now() + interval '1 hour')")
    admin.commit()
    counted = {"refused": 0, "kept": 0}
    for name, deal, acts, rules in steps:
        found = breaches(admin, deal)
        counted["refused" if rules else "kept"] += 1
        same = "FLOW" in found if rules == ["FLOW"] else found == rules
        tap.ok(same, "%s: the same rules" % name, "enforce refused for %s" % rules, "record holds %s" % found, described(acts))
    tap.ok(min(counted.values()) >= 40, "the script has both kinds of steps", counted)
    tap.done()


main()
