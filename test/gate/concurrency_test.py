#!/usr/bin/python3
"""Two sessions that write the same deal, in every interleaving, at every
isolation level: what is stored in the end, and who was refused for what, is
what one of the two serial orders gives, or what remains when a session that was
told to begin again (40001) is left out.  Nobody ever sees a deadlock.

A session is three steps: begin (and take its snapshot), write, commit.  A
session that waits for the other's lock goes on when it gets it.  Prints TAP.
"""
import itertools
import queue
import threading
import time

import psycopg2

from story import (CODES, Bases, Tap, attempt, comment, connect, done, meeting_ahead, missed, move, paid, reason, scenario, signed, skip, sql, start, summary, task)

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


class Session(threading.Thread):
    """Takes steps in turn by a connection and notes what came of them."""

    def __init__(self, connection, level, acts, deal):
        super().__init__(daemon=True)
        self.connection = connection
        self.cur = connection.cursor()
        self.pid = connection.info.backend_pid
        self.level, self.acts, self.deal = level, acts, deal
        self.todo = queue.Queue()
        self.busy = 0
        self.outcome = None
        self.start()

    def run(self):
        while True:
            step = self.todo.get()
            if step is None:
                return
            if self.outcome is None:
                try:
                    self.take(step)
                except psycopg2.Error as error:
                    self.connection.rollback()
                    self.outcome = error.pgcode
                    self.error = error
                    if error.pgcode == "23514":
                        self.outcome += " " + (error.diag.constraint_name or "?")
                except Exception as error:      # the thread must not die silently
                    self.outcome = "broken: %r" % error
            self.busy -= 1

    def take(self, step):
        if step == "begin":
            self.cur.execute("set transaction isolation level " + self.level)
            self.cur.execute("select count(*) from regcrm.deal")
        elif step == "write":
            for act in self.acts:
                act(self.cur, self.deal)
        else:
            self.connection.commit()
            self.outcome = "commits"

    def step(self, name):
        self.busy += 1
        self.todo.put(name)

    def end(self):
        self.todo.put(None)
        self.join()
        self.connection.rollback()


class Pairs:
    def __init__(self, tap, admin, writer_role):
        self.tap, self.admin, self.role = tap, admin, writer_role
        self.watch = connect()
        self.watch.autocommit = True
        # a and b as writers and as a superuser in mode record; sessions that last see what others do to their caches
        self.connections = {(name, who): connect(mode="record") if who else connect(role=writer_role) for name in "ab" for who in (False, True)}

    def waits(self, session):
        cur = self.watch.cursor()
        cur.execute("select cardinality(pg_blocking_pids(%s)) > 0", (session.pid,))
        return cur.fetchone()[0]

    def settle(self, sessions):
        """Until every session is idle or waits for another; the second look is for a wait that has just ended."""
        quiet = 0
        deadline = time.time() + 30
        while quiet < 2:
            if all(s.busy == 0 or self.waits(s) for s in sessions):
                quiet += 1
                if all(s.busy == 0 for s in sessions):
                    return
            else:
                quiet = 0
            if time.time() > deadline:
                raise SystemExit("Bail out! a session neither goes on nor waits")
            time.sleep(0.001)

    def run(self, pair, level, order):
        """order: a string of a and b, whose turn it is.  Returns outcomes and what is stored."""
        deal = pair.setup()
        sessions = {}
        for name in "ab":
            acts = getattr(pair, name)
            sessions[name] = Session(self.connections[name, name in pair.as_admin], level, acts, deal)
        steps = {name: iter(["begin", "write", "commit"]) for name in "ab"}
        for name in order:
            sessions[name].step(next(steps[name]))
            self.settle(list(sessions.values()))
        deadline = time.time() + 30
        while any(s.busy for s in sessions.values()):
            time.sleep(0.001)
            if time.time() > deadline:
                raise SystemExit("Bail out! sessions wait for ever in %s, %s, %s" % (pair.name, level, order))
        for s in sessions.values():
            s.end()
        state = self.state(deal)
        pair.clean()
        return sessions["a"].outcome, sessions["b"].outcome, state, sessions

    def state(self, deal):
        return summary(self.admin, deal)

    def serial(self, pair, level):
        """Both serial orders, and what each session leaves alone."""
        serial = {order: self.run(pair, level, order) for order in ("aaabbb", "bbbaaa")}
        alone = {}
        for name in "ab":
            deal = pair.setup()
            attempt(self.connections[name, name in pair.as_admin], deal, getattr(pair, name))
            alone[name] = self.state(deal)
            pair.clean()
        return serial, alone

    def unlike(self, pair, level, order, serial, alone, lenient=False):
        """Runs an interleaving: None where it is as one of the serial orders, else what it came to."""
        results = [r[:3] for r in serial.values()]
        a, b, state, sessions = self.run(pair, level, order)
        if (a, b, state) in results:
            return None
        if "40001" in (a, b):
            other = "b" if a == "40001" else "a"
            rest = {"a": a, "b": b}[other]
            if rest == "40001":
                return (order, "both were sent back")
            if state == (alone[other] if rest == "commits" else self.untouched(pair)):
                return None
        elif lenient and level == "READ COMMITTED":
            # a statement that waited goes on with what it saw before: it may miss what the other added, and be refused for it
            for name, outcome, rest in (("a", a, b), ("b", b, a)):
                if outcome == "commits" and rest[:6] == "23514 " and rest[6:] in CODES and state == alone[name]:
                    return None
        return (order, a, b, state) + tuple(str(getattr(s, "error", "")).strip() for s in sessions.values())

    def check(self, pair):
        for level in LEVELS:
            serial, alone = self.serial(pair, level)
            results = {order: r[:3] for order, r in serial.items()}
            self.tap.ok((results["aaabbb"][:2], results["bbbaaa"][:2]) == pair.serial_outcomes, "%s, %s: one after the other" % (pair.name, level),
                        "got      %s" % ((results["aaabbb"][:2], results["bbbaaa"][:2]),), "expected %s" % (pair.serial_outcomes,),
                        *[getattr(s, "error", "") for r in serial.values() for s in r[3].values()])
            orders = sorted({"".join(o) for o in itertools.permutations("aaabbb")} - set(serial))
            wrong = [w for order in orders for w in [self.unlike(pair, level, order, serial, alone)] if w]
            self.tap.ok(not wrong, "%s, %s: interleaved as if one after the other" % (pair.name, level),
                        "serial orders: %s" % results, "alone: %s" % alone, "%d orders are like neither:" % len(wrong), *wrong[:4])

    def untouched(self, pair):
        deal = pair.setup()
        state = self.state(deal)
        pair.clean()
        return state


class Pair:
    def __init__(self, name, setup, a, b, ab=None, ba=None, as_admin="", clean=lambda: None):
        """ab: outcomes of (a, b) when a goes first; ba: when b goes first."""
        self.name, self.setup, self.a, self.b, self.serial_outcomes = name, setup, a, b, (ab, ba)
        self.as_admin, self.clean = as_admin, clean


def main():
    tap = Tap()
    admin, writer = start()
    bases = Bases(admin)
    pairs = Pairs(tap, admin, "regcrm_writer")
    control, contract_control = task("meeting_control"), task("contract_control")

    def with_task(stage="messaging"):
        deal = bases.make(stage)
        assert attempt(admin, deal, [task()]) is None
        return deal

    ok = "commits"
    third = sql("select from regcrm.choose_scenario(%(a)s, %(d)s, 'no_answer')")
    drop_tasks = sql("delete from regcrm.task where account_id = %(a)s and deal_id = %(d)s")
    insert_deal = sql("insert into regcrm.deal (account_id, id, stage, manager_id, lead_date) values (%(a)s, %(d)s, 'new', 1, now()::date)")
    drop_contact = sql("delete from regcrm.event where account_id = %(a)s and deal_id = %(d)s and kind = 'call_out' and answered")

    def rules_again():
        cur = admin.cursor()
        cur.execute("update regcrm.rule set enabled = true where regulation = 'idrive' and code = 'WRK-1'")
        admin.commit()

    def fresh_key():
        bases.last += 1
        return bases.last

    for pair in [
        Pair("one completes the only task, one moves the deal", with_task,
             [done()], [comment, move("deciding")], (ok, "23514 DEC-3"), ("23514 DEC-3", ok)),
        Pair("one deletes the only task, one moves the deal", with_task,
             [drop_tasks], [comment, move("deciding")], (ok, "23514 DEC-3"), ("23514 DEC-3", ok)),
        Pair("one adds a task, one completes all", lambda: bases.make("messaging"), [task()], [done()], (ok, ok), (ok, ok)),
        Pair("one adds a task, one moves the deal to lost", lambda: bases.make("messaging"),
             [task()], [reason, move("lost")], (ok, "23514 LOST-4"), ("23514 LOST-4", ok)),
        Pair("both move the deal, to won and to lost", lambda: bases.make("meeting"),
             [signed, paid, done(), skip, move("won")], [reason, done(), move("lost")],
             (ok, "23514 FLOW"), ("23514 FLOW", ok)),
        Pair("both move the deal, to stages that lead to each other", lambda: bases.make("deciding"),
             [meeting_ahead, control, contract_control, move("meeting")], [meeting_ahead, control, contract_control, move("contract")],
             (ok, ok), (ok, ok)),
        Pair("one robot writes, one moves the deal into messaging", lambda: bases.make("deciding"),
             [task("other", by_bot=True)], [move("messaging")], (ok, ok), ("23514 CHAT-5", ok)),
        Pair("both choose the third «Недозвон»", lambda: bases.make("no_answer", misses=2),
             [missed, scenario("no_answer")], [missed, scenario("no_answer")], (ok, ok), (ok, ok)),
        Pair("both call choose_scenario for the third «Недозвон»", lambda: bases.make("no_answer", misses=2),
             [third], [third], (ok, "23514 ?"), ("23514 ?", ok)),
        Pair("both begin the same deal", fresh_key, [insert_deal], [insert_deal], (ok, "23505"), ("23505", ok)),
        Pair("one begins a deal, one adds its comment", fresh_key, [insert_deal], [comment], (ok, ok), (ok, "23503")),
        Pair("one deletes in record what the other relies on", lambda: bases.make("new"),
             [drop_contact], [scenario("in_work"), move("in_work")], (ok, "23514 WRK-1"), (ok, ok), as_admin="a"),
        Pair("one changes the rules, one writes", lambda: bases.make("new", contact=False),
             [sql("update regcrm.rule set enabled = false where regulation = 'idrive' and code = 'WRK-1'")],
             [scenario("in_work"), move("in_work")], (ok, ok), (ok, "23514 WRK-1"), as_admin="a", clean=rules_again),
    ]:
        pairs.check(pair)
    tap.done()


if __name__ == "__main__":
    main()
