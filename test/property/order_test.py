#!/usr/bin/python3
"""The same facts give the same findings, in whatever order and batches they came.

2,000 random deals (many facts of one second, facts before the deal's creation,
moves taken back, unobserved moves, moved meetings) are stored four times, as
four accounts:

    1  mode record, every deal whole, facts in order of time
    2  mode record, facts of all deals shuffled, in batches of random size
    3  mode record, shuffled otherwise, the deals' own rows last
    4  mode off, shuffled, then rejudge()

Judged from scratch by regcrm.judge(), each deal must have the same findings in
all four; and what the ledger holds of each must equal what judge says now.
Prints TAP.  Connects by the usual PG* variables to a database with regcrm.

    order_test.py [--deals 2000] [--seed 1]
"""
import argparse
import datetime as dt
import random
import sys

import psycopg2
import psycopg2.extras

STAGES = ["new", "in_work", "no_answer", "messaging", "deciding", "meeting",
          "contract", "deferred", "lost", "unqualified", "won"]
SCENARIOS = ["no_answer", "in_work", "messaging", "meeting", "lost", "unqualified"]
KINDS = ["process_request", "callback", "meeting_control", "contract_control", "other"]
FIELDS = {
    "reason": lambda r, at: r.choice(["дорого", "далеко", "передумал"]),
    "pause_reason": lambda r, at: "думает",
    "lead_date": lambda r, at: at.date().isoformat(),
    "return_on": lambda r, at: (at + dt.timedelta(days=r.randint(-2, 3))).date().isoformat(),
    "meeting_at": lambda r, at: (at + dt.timedelta(minutes=r.randint(-120, 600))).isoformat(),
    "agreed_at": lambda r, at: at.isoformat(),
    "signed_at": lambda r, at: at.isoformat(),
    "paid_at": lambda r, at: at.isoformat(),
    "skip_task_check": lambda r, at: r.choice(["true", "false"]),
}
RULES = ["NEW-6", "DEC-2", "MEET-6"]
EVENT_COLUMNS = ["id", "deal_id", "at", "kind", "by_bot", "actor_id", "from_stage", "to_stage",
                 "answered", "duration", "scenario", "field", "value"]
TASK_COLUMNS = ["id", "deal_id", "kind", "body", "manager_id", "created_at", "by_bot", "due_at",
                "completed_at"]


class Deal:
    """One random deal: its own row, events and tasks, as tuples of columns."""

    def __init__(self, r, number, start):
        self.id = number
        self.created_at = start
        self.events = []
        self.tasks = []
        self.r = r
        self.next_id = number * 1000
        at = start
        stage = r.choices(["new", r.choice(STAGES)], [9, 1])[0]
        self.event(at, "stage", to_stage=stage)
        for _ in range(r.randint(0, 30)):
            # a third of the facts share the second of the one before
            at += dt.timedelta(seconds=r.choice([0, 0, 1, 20, 60, 300, 900, 3600, 40000]))
            stage = self.something(at, stage)
        if r.random() < 0.1:
            self.event(start - dt.timedelta(minutes=3), "call_in", answered=True,
                       duration="00:01:00")

    def event(self, at, kind, **more):
        row = dict.fromkeys(EVENT_COLUMNS)
        self.next_id += 1
        row.update(id=self.next_id, deal_id=self.id, at=at, kind=kind, by_bot=False, actor_id=1)
        row.update(more)
        self.events.append(tuple(row[c] for c in EVENT_COLUMNS))

    def task(self, at, due, done):
        self.next_id += 1
        self.tasks.append((self.next_id, self.id, self.r.choice(KINDS), None, 1, at,
                           self.r.random() < 0.3, due, done))

    def something(self, at, stage):
        r = self.r
        what = r.choice(["move", "move", "call", "call", "message", "message", "task", "task",
                         "scenario", "scenario", "comment", "field", "field", "other"])
        bot = r.random() < 0.2
        actor = r.choice([1, 1, 1, 2, 3])
        if what == "move":
            to = r.choice(STAGES)
            shown = stage if r.random() < 0.9 else r.choice(STAGES)
            self.event(at, "stage", by_bot=bot, actor_id=actor, from_stage=shown, to_stage=to)
            if r.random() < 0.15:
                back = at + dt.timedelta(seconds=r.choice([0, 30, 60, 61]))
                self.event(back, "stage", actor_id=actor, from_stage=to, to_stage=stage)
                to = stage
            return to
        if what == "call":
            self.event(at, r.choice(["call_in", "call_out"]), actor_id=actor,
                       answered=r.choice([True, False, None]),
                       duration=dt.timedelta(seconds=r.choice([0, 5, 70, 600, 900])))
        elif what == "message":
            kind = r.choice(["message_in", "message_out"])
            self.event(at, kind, by_bot=bot and kind == "message_out", actor_id=actor)
        elif what == "task":
            due = at + dt.timedelta(seconds=r.choice([-60, 0, 600, 7200, 90000]))
            done = at + dt.timedelta(seconds=r.choice([0, 60, 4000, 90000]))
            self.task(at, due, done if r.random() < 0.7 else None)
        elif what == "scenario":
            self.event(at, "scenario", by_bot=bot, actor_id=actor, scenario=r.choice(SCENARIOS))
        elif what == "comment":
            self.event(at, "comment", actor_id=actor)
        elif what == "field":
            field = r.choice(list(FIELDS))
            value = FIELDS[field](r, at) if r.random() < 0.85 else None
            self.event(at, "field", field=field, value=value, actor_id=actor)
        else:
            kind = r.choice(["request", "visit", "robot", "responsible", "verdict"])
            self.event(at, kind, by_bot=kind == "robot",
                       field=r.choice(RULES) if kind == "verdict" else None,
                       value={"verdict": r.choice(["pass", "fail"]),
                              "responsible": str(r.randint(1, 3))}.get(kind))
        return stage


def insert(cur, account, table, columns, rows):
    if rows:
        psycopg2.extras.execute_values(
            cur, f"insert into regcrm.{table} (account_id, {', '.join(columns)}) values %s",
            [(account, *row) for row in rows], page_size=1000)


def store(connection, account, rows, batch):
    """Stores (table, row) pairs in the order given, a transaction a batch."""
    columns = {"deal": ["id", "created_at", "manager_id"], "event": EVENT_COLUMNS,
               "task": TASK_COLUMNS}
    with connection.cursor() as cur:
        at = 0
        while at < len(rows):
            size = batch()
            part = rows[at:at + size]
            for table in ("event", "deal", "task"):
                insert(cur, account, table, columns[table],
                       [row for name, row in part if name == table])
            connection.commit()
            at += size


FINDINGS = """
    select d.id, f.rule, f.task_id, f.stage::text, f.arose_at, f.warn_at, f.due_at, f.met_at,
           f.breached_at, f.resolved_at, f.resolution, f.state, f.evidence::text
    from regcrm.deal d cross join lateral regcrm.judge(%s, d.id) f
    where d.account_id = %s order by 1, 2, 5, 3"""
LEDGER = {
    "violation": ("""
        select deal_id, rule, task_id, arose_at, breached_at, resolved_at, resolution
        from regcrm.violation where account_id = %(a)s and withdrawn_at is null""", """
        select d.id, f.rule, f.task_id, f.arose_at, f.breached_at, f.resolved_at, f.resolution
        from regcrm.deal d cross join lateral regcrm.judge(%(a)s, d.id) f
        where d.account_id = %(a)s and f.breached_at is not null"""),
    "deadline": ("""
        select deal_id, rule, task_id, arose_at, due_at, met_at, state
        from regcrm.deadline where account_id = %(a)s""", """
        select d.id, f.rule, f.task_id, f.arose_at, f.due_at, f.met_at, f.state
        from regcrm.deal d cross join lateral regcrm.judge(%(a)s, d.id) f
        where d.account_id = %(a)s and f.due_at > f.arose_at"""),
}
COLUMNS = """
    select id, stage::text, manager_id, lead_date, reason, pause_reason, meeting_at, return_on,
           agreed_at, signed_at, paid_at, skip_task_check
    from regcrm.deal where account_id = %s order by id"""


class Tap:
    count = failed = 0

    def ok(self, passed, name, diagnosis=""):
        self.count += 1
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.count} - {name}")
        for line in diagnosis.splitlines():
            print(f"# {line}")


def differences(a, b, limit=5):
    """A readable list of what stands in one of two lists of rows only."""
    left, right = set(a), set(b)
    lines = [f"only in the first:  {row}" for row in sorted(left - right, key=str)[:limit]]
    lines += [f"only in the second: {row}" for row in sorted(right - left, key=str)[:limit]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deals", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    r = random.Random(options.seed)
    zone = dt.timezone(dt.timedelta(hours=3))
    now = dt.datetime.now(zone).replace(microsecond=0)
    deals = []
    for number in range(1, options.deals + 1):
        # most are long over; some go on now, so that duties are pending
        back = r.choice([dt.timedelta(days=r.randint(40, 200), seconds=r.randint(0, 86399)),
                         dt.timedelta(days=r.randint(40, 60)), dt.timedelta(days=12)])
        deals.append(Deal(r, number, now - back))
    cutoff = now - dt.timedelta(minutes=1)
    for deal in deals:
        deal.events = [e for e in deal.events if e[2] <= cutoff]
        deal.tasks = [t for t in deal.tasks if t[5] <= cutoff and (t[8] is None or t[8] <= cutoff)]

    connection = psycopg2.connect("")
    cur = connection.cursor()
    for account in range(1, 5):
        cur.execute("insert into regcrm.account (id, name, calendar) values (%s, %s, %s)",
                    (account, f"order {account}", "daily-9-20"))
        cur.execute("""insert into regcrm.manager (account_id, id, name, in_scope)
                       values (%(a)s, 1, 'Анна', true), (%(a)s, 2, 'Борис', true),
                              (%(a)s, 3, 'Бухгалтер', false)""", {"a": account})
    connection.commit()

    whole = []
    for deal in deals:
        whole.append(("deal", (deal.id, deal.created_at, 1)))
        rest = [("event", e) for e in deal.events] + [("task", t) for t in deal.tasks]
        rest.sort(key=lambda row: row[1][2] if row[0] == "event" else row[1][5])
        whole += rest
    shuffled = whole[:]
    r.shuffle(shuffled)
    last = [row for row in whole if row[0] != "deal"]
    r.shuffle(last)
    last += [row for row in whole if row[0] == "deal"]
    cur.execute("set regcrm.mode = 'record'")
    store(connection, 1, whole, lambda: 2000)
    store(connection, 2, shuffled, lambda: r.choice([1, 7, 100, 3000]))
    store(connection, 3, last, lambda: r.choice([50, 4000]))
    cur.execute("set regcrm.mode = 'off'")
    r.shuffle(shuffled)
    store(connection, 4, shuffled, lambda: 10000)
    connection.set_session(autocommit=True)
    cur.execute("select * from regcrm.rejudge(4)")
    cur.execute("select regcrm.flag_expired()")

    tap = Tap()
    connection.set_session(autocommit=False, isolation_level="REPEATABLE READ")
    results, columns = {}, {}
    for account in range(1, 5):
        cur.execute(FINDINGS, (account, account))
        results[account] = cur.fetchall()
        cur.execute(COLUMNS, (account,))
        columns[account] = cur.fetchall()
    tap.ok(len(results[1]) > 5 * options.deals,
           f"{options.deals} deals, {len(whole) - options.deals} facts, {len(results[1])} findings")
    for account in range(2, 5):
        tap.ok(results[account] == results[1],
               f"account {account}, stored in another order, has the findings of account 1",
               differences(results[1], results[account]))
        tap.ok(columns[account] == columns[1],
               f"account {account}: the deals' columns ended up the same",
               differences(columns[1], columns[account]))
    for account in range(1, 5):
        for table, (stored, judged) in LEDGER.items():
            cur.execute(stored, {"a": account})
            a = cur.fetchall()
            cur.execute(judged, {"a": account})
            b = cur.fetchall()
            tap.ok(sorted(a, key=str) == sorted(b, key=str) and len(a) > options.deals,
                   f"account {account}: {table} ({len(a)} rows) equals judge from scratch",
                   differences(a, b))
    print(f"1..{tap.count}")
    sys.exit(tap.failed > 0)


if __name__ == "__main__":
    main()
