#!/usr/bin/python3
"""Savepoints in random nests, and PL/pgSQL blocks that catch what they raised:
what is rolled back leaves nothing behind (hazards G6).

The model is a twin: deals of the same history get just the acts that survive,
in one plain transaction.  Both transactions must end alike, commit or refusal
for the same rules, and leave the same behind.  Prints TAP.

    savepoint_test.py [--transactions 250] [--seed 1]
"""
import argparse
import random

import psycopg2

from story import ACCOUNT, Bases, Refused, Tap, completing, move, random_acts, sql, start, summary

STAGES = ["new", "in_work", "messaging", "deciding", "meeting", "contract", "deferred", "lost"]

# an act of a block that is undone by its own exception
caught = sql("do $$begin update regcrm.task set completed_at = now() where deal_id = %(d)s and completed_at is null;"
             " insert into regcrm.event (account_id, deal_id, kind, by_bot) values (%(a)s, %(d)s, 'robot', true);"
             " raise exception 'undo'; exception when raise_exception then null; end$$")
judge_now = sql("set constraints all immediate")
judge_later = sql("set constraints all deferred")


class Nest:
    def __init__(self, cur, r, deals):
        self.cur, self.r, self.deals = cur, r, deals
        self.told = []
        self.number = 0

    def act(self, act, number):
        self.told.append("%s of deal %d" % (" ".join(act.text.split())[:150], number))
        act(self.cur, self.deals[number])

    def level(self, depth):
        """Acts and nests; returns what survives as (act, number of the deal)."""
        kept = []
        for _ in range(self.r.randint(1, 3)):
            if depth < 4 and self.r.random() < 0.5:
                kept += self.nest(depth)
            else:
                kept += self.some()
        return kept

    def some(self):
        number = self.r.randrange(len(self.deals))
        what = self.r.random()
        if what < 0.15:
            self.act(caught, number)
            return []
        if what < 0.5:
            acts = random_acts(self.r, 2)
        else:
            self.cur.execute("select stage::text from regcrm.deal where account_id = %s and id = %s", (ACCOUNT, self.deals[number]))
            here = self.cur.fetchone()[0]
            there = self.r.choice(STAGES)
            acts = completing(here, there)
            if self.r.random() < 0.3:
                acts = acts[1:]
            if here != there:
                acts = acts + [move(there)]
        for act in acts:
            self.act(act, number)
        return [(act, number) for act in acts]

    def nest(self, depth):
        self.number += 1
        name = "s%d" % self.number
        self.told.append("savepoint " + name)
        self.cur.execute("savepoint " + name)
        try:
            kept = self.level(depth + 1)
            if self.r.random() < 0.2:
                self.told.append("judged at once")
                judge_now(self.cur, 0)
                judge_later(self.cur, 0)
        except psycopg2.Error as error:
            if error.pgcode[:2] in ("XX", "40"):
                raise
            self.told.append("fails: %s" % error.diag.message_primary)
            self.cur.execute("rollback to " + name)
            self.cur.execute("set constraints all deferred")
            return []
        if self.r.random() < 0.5:
            self.told.append("rollback to " + name)
            self.cur.execute("rollback to " + name)
            return self.some_more(name)
        if self.r.random() < 0.7:
            self.told.append("release " + name)
            self.cur.execute("release " + name)
        return kept

    def some_more(self, name):
        """A savepoint may be rolled back to, and gone on from."""
        if self.r.random() < 0.5:
            self.cur.execute("release " + name)
        return []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--transactions", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tap = Tap()
    admin, writer = start()
    bases = Bases(admin)
    r = random.Random(options.seed)
    cur = writer.cursor()
    count = {"commits": 0, "refused": 0, "refused at a statement": 0, "with something rolled back": 0}
    wrong = []

    def end(place="commit"):
        try:
            writer.commit()
        except psycopg2.Error as error:
            writer.rollback()
            return Refused(error, place)
        return None

    for number in range(options.transactions):
        histories = [(r.choice(STAGES), r.random() < 0.3) for _ in range(r.randint(1, 3))]
        pairs = [[bases.make(stage, chat=chat and stage not in ("new", "in_work")) for stage, chat in histories] for _ in range(2)]
        nest = Nest(cur, r, pairs[0])
        outer = None
        try:
            kept = nest.level(0)
        except psycopg2.Error as error:
            writer.rollback()
            if error.pgcode[:2] in ("XX", "40"):
                wrong.append((number, "an error that is not the writer's", Refused(error, "statement"), *nest.told))
            count["refused at a statement"] += 1
            continue
        outer = end()
        twin = None
        try:
            for act, deal in kept:
                act(cur, pairs[1][deal])
        except psycopg2.Error as error:
            writer.rollback()
            wrong.append((number, "the twin is refused at a statement", Refused(error, "statement"), *nest.told))
            continue
        twin = end()
        count["commits" if outer is None else "refused"] += 1
        count["with something rolled back"] += any("rollback" in t for t in nest.told)
        if (outer and (outer.sqlstate, outer.rules)) != (twin and (twin.sqlstate, twin.rules)):
            wrong.append((number, "they end differently", "nested: %s" % outer, "twin: %s" % twin, *nest.told))
            continue
        for one, two in zip(*pairs):
            if summary(admin, one) != summary(admin, two):
                wrong.append((number, "they leave different things", summary(admin, one), summary(admin, two), *nest.told))

    tap.ok(not wrong, "%d nests end as what survives of them does" % options.transactions, "%d do not (seed %d)" % (len(wrong), options.seed),
           *[line for w in wrong[:3] for line in ("--",) + w])
    tap.ok(min(count.values()) >= 10, "there were enough of each", count)
    cur = admin.cursor()
    cur.execute("select regcrm.flag_expired(clock_timestamp())")
    cur.execute("select (j).changed from regcrm.rejudge() j")
    tap.same(cur.fetchone()[0], 0, "and rejudge finds nothing to change")
    tap.done()


main()
