#!/usr/bin/python3
"""Whatever a transaction does, the ledger is what judge says when it is over.

Random transactions in mode record write deals, columns, events and tasks: one
row or many, in savepoints that are released or rolled back, with constraints
deferred or immediate, rows changed and deleted again.  After each transaction

  - what the ledger holds of every deal equals what judge finds,
  - the deals' columns are what their latest events say,

and at the end rejudge() finds nothing to change, nor does it the second time.
Prints TAP.  Connects by the usual PG* variables to a database with regcrm.

    gate_test.py [--transactions 400] [--seed 1]
"""
import argparse
import datetime as dt
import random
import sys

import psycopg2
import psycopg2.extras

STAGES = ["new", "in_work", "no_answer", "messaging", "deciding", "meeting",
          "contract", "deferred", "lost", "unqualified", "won"]
KINDS = ["process_request", "callback", "meeting_control", "contract_control", "other"]
DEALS = 25
ACCOUNTS = (1, 2)


class Writer:
    def __init__(self, cur, r):
        self.cur, self.r = cur, r
        self.now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
        self.depth = 0

    def run(self, sql, *args):
        self.cur.execute(sql, args)

    def past(self):
        """A moment of the last days; some coincide."""
        return self.now - dt.timedelta(hours=self.r.choice([1, 2, 5, 30, 31, 100, 100, 300]),
                                       seconds=self.r.choice([0, 0, 0, 1, 59, 60]))

    def some_deals(self, most=6):
        return self.r.sample(range(1, DEALS + 1), self.r.randint(1, most))

    def insert_deals(self):
        rows = [(self.r.choice(ACCOUNTS), d, self.r.choice(STAGES + [None]), self.r.choice([1, 2, None]),
                 self.past(), self.r.choice(["дорого", None, None]),
                 self.r.choice([self.past(), None, None]), self.r.choice([True, False, None]))
                for d in self.some_deals()]
        psycopg2.extras.execute_values(self.cur, """
            insert into regcrm.deal (account_id, id, stage, manager_id, created_at, reason,
                                     meeting_at, skip_task_check)
            values %s on conflict (account_id, id) do update
            set stage = excluded.stage, reason = excluded.reason""", rows,
            template="(%s,%s,%s::text::regcrm.stage,%s,%s,%s,%s,%s)")

    def update_deals(self):
        column, value = self.r.choice([
            ("stage", self.r.choice(STAGES)), ("stage", self.r.choice(STAGES)),
            ("manager_id", self.r.randint(1, 3)), ("reason", self.r.choice(["a", "b", None])),
            ("return_on", self.r.choice([None, (self.now + dt.timedelta(days=3)).date()])),
            ("meeting_at", self.past()), ("name", "x"), ("skip_task_check", True)])
        cast = "::text::regcrm.stage" if column == "stage" else ""
        self.run(f"update regcrm.deal set {column} = %s{cast} where id = any (%s)", value, self.some_deals())

    def delete_deals(self):
        if self.r.random() < 0.2:
            self.run("delete from regcrm.deal where account_id = 1 and id = %s", self.r.randint(1, DEALS))

    def insert_events(self):
        rows = []
        for d in self.some_deals(12):
            kind = self.r.choice(["stage", "stage", "call_out", "call_in", "message_in", "comment",
                                  "field", "responsible", "scenario", "visit"])
            row = dict.fromkeys(["from", "to", "answered", "field", "value", "scenario"])
            if kind == "stage":
                row["to"] = self.r.choice(STAGES)
                row["from"] = self.r.choice([None, None, self.r.choice(STAGES)])
            elif kind in ("call_out", "call_in"):
                row["answered"] = self.r.random() < 0.5
            elif kind == "field":
                row["field"], row["value"] = self.r.choice([
                    ("reason", "c"), ("reason", None), ("return_on", "2026-01-05"),
                    ("meeting_at", self.past().isoformat()), ("color", "red"), ("skip_task_check", "true")])
            elif kind == "responsible":
                row["value"] = str(self.r.randint(1, 3))
            elif kind == "scenario":
                row["scenario"] = "no_answer"
            rows.append((self.r.choice(ACCOUNTS), d, self.past(), kind, row["from"], row["to"],
                         row["answered"], row["field"], row["value"], row["scenario"]))
        psycopg2.extras.execute_values(self.cur, """
            insert into regcrm.event (account_id, deal_id, at, kind, from_stage, to_stage, answered,
                                      field, value, scenario) values %s""", rows,
            template="(%s,%s,%s,%s,%s::text::regcrm.stage,%s::text::regcrm.stage,%s,%s,%s,%s)")

    def change_events(self):
        self.run("""update regcrm.event set at = at - interval '1 hour'
                    where account_id = %s and deal_id = any (%s) and source is null and kind <> 'responsible'""",
                 self.r.choice(ACCOUNTS), self.some_deals(3))

    def move_events(self):
        """Events of one deal turn out to be another's."""
        self.run("""update regcrm.event set deal_id = %s where account_id = 1 and deal_id = %s
                    and kind in ('call_out', 'call_in', 'message_in')""",
                 self.r.randint(1, DEALS), self.r.randint(1, DEALS))

    def delete_events(self):
        self.run("delete from regcrm.event where account_id = %s and deal_id = %s and kind in ('call_in', 'comment')",
                 self.r.choice(ACCOUNTS), self.r.randint(1, DEALS))

    def insert_tasks(self):
        rows = [(self.r.choice(ACCOUNTS), d, self.r.choice(KINDS), 1, at, at + dt.timedelta(hours=self.r.choice([0, 1, 50])),
                 self.r.random() < 0.3)
                for d in self.some_deals() for at in [self.past()]]
        psycopg2.extras.execute_values(self.cur, """
            insert into regcrm.task (account_id, deal_id, kind, manager_id, created_at, due_at, by_bot)
            values %s""", rows)

    def change_tasks(self):
        what = self.r.choice(["completed_at = created_at + interval '10 min'", "completed_at = null",
                              "due_at = due_at + interval '1 day'", "deleted_at = created_at + interval '1 h'"])
        self.run(f"update regcrm.task set {what} where account_id = %s and deal_id = any (%s)",
                 self.r.choice(ACCOUNTS), self.some_deals(4))

    def delete_tasks(self):
        self.run("delete from regcrm.task where account_id = %s and deal_id = %s",
                 self.r.choice(ACCOUNTS), self.r.randint(1, DEALS))

    def constraints(self):
        self.run("set constraints all " + self.r.choice(["immediate", "deferred"]))

    def act(self):
        self.r.choice([self.insert_deals, self.insert_deals, self.update_deals, self.update_deals,
                       self.delete_deals, self.insert_events, self.insert_events, self.insert_events,
                       self.change_events, self.move_events, self.delete_events, self.insert_tasks,
                       self.insert_tasks, self.change_tasks, self.delete_tasks, self.constraints])()

    def acts(self):
        for _ in range(self.r.randint(1, 4)):
            if self.r.random() < 0.3 and self.depth < 4:
                self.depth += 1
                name = f"s{self.depth}"
                self.run(f"savepoint {name}")
                self.acts()
                # what is rolled back is not released: a server with assertions fails where a
                # row is locked, updated in a savepoint that is rolled back and released, and
                # updated again (heap_update; plain SQL does it, PostgreSQL 15.18)
                if self.r.random() < 0.5:
                    self.run(f"rollback to {name}")
                else:
                    self.run(f"release {name}")
                self.depth -= 1
            else:
                self.act()


CHECK = """
with stored as (
    select account_id, deal_id, rule, task_id, arose_at, breached_at, resolved_at, resolution, manager_id
    from regcrm.violation where withdrawn_at is null),
found as (
    select d.account_id, d.id, f.rule, f.task_id, f.arose_at, f.breached_at, f.resolved_at, f.resolution
    from regcrm.deal d cross join lateral regcrm.judge(d.account_id, d.id, %(now)s) f
    where f.breached_at is not null),
deadlines as (
    select account_id, deal_id, rule, task_id, arose_at, due_at, met_at, state from regcrm.deadline),
due as (
    select d.account_id, d.id, f.rule, f.task_id, f.arose_at, f.due_at, f.met_at, f.state
    from regcrm.deal d cross join lateral regcrm.judge(d.account_id, d.id, %(now)s) f
    where f.due_at > f.arose_at)
select 'violation stored', s::text from (
    select account_id, deal_id, rule, task_id, arose_at, breached_at, resolved_at, resolution from stored
    where (account_id, deal_id) in (select account_id, id from regcrm.deal) except select * from found) s
union all select 'violation found', s::text from (
    select * from found except
    select account_id, deal_id, rule, task_id, arose_at, breached_at, resolved_at, resolution from stored) s
union all select 'deadline stored', s::text from (
    select * from deadlines where (account_id, deal_id) in (select account_id, id from regcrm.deal)
    except select * from due) s
union all select 'deadline found', s::text from (select * from due except select * from deadlines) s
union all select 'runs without its deal', l::text from regcrm.deadline l
    where state in ('pending', 'warned') and (account_id, deal_id) not in (select account_id, id from regcrm.deal)
union all select 'stage', format('%%s %%s: %%s, not %%s', d.account_id, d.id, d.stage, e.to_stage)
    from regcrm.deal d cross join lateral (
        select e.to_stage, count(*) over (partition by e.at) as together from regcrm.event e
        where e.account_id = d.account_id and e.deal_id = d.id and e.kind = 'stage'
        order by greatest(e.at, d.created_at) desc, e.source_id desc nulls first, e.id desc limit 1) e
    where d.stage is distinct from e.to_stage and e.together = 1
    and not exists (select from regcrm.event e where e.account_id = d.account_id and e.deal_id = d.id
                    and e.kind = 'stage' and e.at <= d.created_at
                    having count(*) > 1)
union all select 'field', format('%%s %%s %%s: %%s, not %%s', d.account_id, d.id, f.field, f.value, e.value)
    from regcrm.deal d cross join lateral (values ('reason', d.reason),
        ('return_on', d.return_on::text), ('manager_id', d.manager_id::text)) f (field, value)
    cross join lateral (
        select e.value from regcrm.event e
        where e.account_id = d.account_id and e.deal_id = d.id
        and (e.kind = 'field' and e.field = f.field or e.kind = 'responsible' and f.field = 'manager_id')
        order by greatest(e.at, d.created_at) desc, e.at desc, e.source_id desc nulls first, e.id desc limit 1) e
    where f.value is distinct from e.value
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--transactions", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    r = random.Random(options.seed)
    connection = psycopg2.connect("")
    cur = connection.cursor()
    cur.execute("set regcrm.mode = off")
    cur.execute("insert into regcrm.account (id) select unnest(%s)", (list(ACCOUNTS),))
    cur.execute("""insert into regcrm.manager (account_id, id, in_scope)
                   select a, m, m < 3 from unnest(%s) a, generate_series(1, 3) m""", (list(ACCOUNTS),))
    connection.commit()
    cur.execute("set regcrm.mode = record")
    connection.commit()

    failed = []
    for number in range(options.transactions):
        level = r.choice(["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
        cur.execute("set transaction isolation level " + level)
        writer = Writer(cur, r)
        writer.acts()
        if r.random() < 0.1:
            connection.rollback()
        else:
            connection.commit()
        cur.execute("set regcrm.mode = record")
        connection.commit()
        # one moment for both: what falls due between them is no difference
        cur.execute("select clock_timestamp()")
        now = cur.fetchone()
        cur.execute("select regcrm.flag_expired(%s)", now)
        connection.commit()
        cur.execute(CHECK, {"now": now[0]})
        wrong = cur.fetchall()
        connection.commit()
        if wrong:
            failed.append((number, wrong))
            break

    def ok(number, passed, name):
        print(f"{'ok' if passed else 'not ok'} {number} - {name}")

    ok(1, not failed, f"{options.transactions} random transactions leave the ledger as judge finds it")
    for number, wrong in failed:
        print(f"# transaction {number}, seed {options.seed}")
        for what, row in wrong[:8]:
            print(f"#   {what}: {row}")
    cur.execute("select count(*) from regcrm.violation")
    violations = cur.fetchone()[0]
    cur.execute("select (j).* from (select regcrm.rejudge() j) j")
    first = cur.fetchone()
    connection.commit()
    ok(2, failed or first[1] <= first[0] // 20, f"rejudge finds it so: {first} with {violations} violations")
    cur.execute("select (j).* from (select regcrm.rejudge() j) j")
    again = cur.fetchone()
    connection.commit()
    ok(3, again[1] == 0 or bool(failed), f"and changes nothing the second time: {again}")
    print("1..3")
    sys.exit(bool(failed) or again[1] != 0)


if __name__ == "__main__":
    main()
