"""The plans of everything that regcrm runs by itself, and of its views: where a key is given, no fact table is read as a whole.

auto_explain shows every statement that a call runs inside, with its plan, as a notice; nothing forbids the planner anything here
(what regcrm's own statements forbid it for themselves stays so).  Tables hold 2,000 deals, thirty thousand events and as many
deadlines, analyzed.  A plan fails where it reads deal, event, task, deadline or violation
  - by a sequential scan, though the statement or the view was given a deal, or
  - by an index of which only the account is used, while the deal is looked for among what that gives.
Statements that are meant to go over everything stand in WHOLE, with the reason.
"""
import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import psycopg2                                     # noqa: E402

from story import Tap                               # noqa: E402

HERE = Path(__file__).resolve().parent
FACTS = {"deal", "event", "task", "deadline", "violation"}
DEALS = 2000
SYNCED = 30111222

#: what goes over a whole account on purpose: a pattern of its text, and why
WHOLE = [
    (r"where account_id = \$1( and deal_id is not null)?\s+order by account_id", "rejudge() reads the account in order, deal by deal: all rows are wanted"),
    (r"regcrm\.stuck_deals ", "how long deals usually stay in a stage is found out of the visits of 90 days, whichever deal is asked for"),
    (r"regcrm\.due_soon ", "lists what is due within the day, of which there is little; the deal is looked for in that list"),
]

tap = Tap()


def load():
    """Deals, events and tasks as the benchmarks make them, and a synced account beside them."""
    subprocess.run(["psql", "-X", "-q", "-v", "deals=%d" % DEALS, "-f", str(HERE.parent / "bench/gate_data.sql")], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "PGOPTIONS": "-c client_min_messages=error"})
    # a third of the deals lose the task that they need: tables without rows have plans of their own
    connection = psycopg2.connect("")
    connection.autocommit = True
    cur = connection.cursor()
    cur.execute("set client_min_messages = error")
    cur.execute("set regcrm.mode = 'off'")
    cur.execute("delete from regcrm.task where completed_at is null and deal_id % 3 = 0")
    cur.execute("set regcrm.mode = 'enforce'")
    cur.execute("select regcrm.rejudge(1)")
    cur.execute("analyze")
    connection.close()


def connect():
    connection = psycopg2.connect("")
    connection.autocommit = True
    connection.notices = collections.deque()        # psycopg2 keeps the last fifty in a list of its own
    cur = connection.cursor()
    cur.execute("load 'auto_explain'")
    for name, value in {"auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on", "auto_explain.log_format": "json",
                        "auto_explain.log_level": "notice", "client_min_messages": "notice", "regcrm.account_id": "1", "jit": "off"}.items():
        cur.execute("set %s = '%s'" % (name, value))
    return connection, cur


def plans(connection):
    """Text and plan of the statements that ran since the last call."""
    found = []
    for notice in connection.notices:
        if begin := re.search(r"plan:\n", notice):
            shown = json.JSONDecoder().raw_decode(notice[begin.end():].strip())[0]
            found.append((shown.get("Query Text", ""), shown["Plan"]))
    connection.notices.clear()
    return found


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def reads_too_much(node):
    """Whether a node of a plan looks for a deal's rows the long way; the words for it."""
    if node.get("Relation Name") not in FACTS or node.get("Schema", "regcrm") != "regcrm":
        return None
    if node["Node Type"] == "Seq Scan":
        return "reads all of %s" % node["Relation Name"]
    key = r"\b(deal_id|id)\b =" if node["Relation Name"] != "deal" else r"\bid\b ="
    looked_for = node.get("Filter", "")
    used = node.get("Index Cond", node.get("Recheck Cond", ""))
    if "Index" in node["Node Type"] and re.search(key, looked_for) and not re.search(r"\b(?!account_id\b)\w+\b\)* (=|<|>|<=|>=) ", used.replace("account_id =", "")):
        return "looks for the deal among all of the account's %s" % node["Relation Name"]
    return None


seen = set()


def check(connection, what):
    """All plans of a call."""
    bad, found = [], plans(connection)
    for text, plan in found:
        text = re.sub(r"\s+", " ", text)
        seen.add(text)
        if any(re.search(pattern, text) for pattern, _ in WHOLE):
            continue
        bad += ["%s: %s" % (words, text[:600]) for words in filter(None, map(reads_too_much, nodes(plan)))]
    tap.ok(found and not bad, "%s: %d plans go by keys" % (what, len(found)), *(bad or ["no plan was shown"]))


CALLS = [
    ("a move, its task and its scenario, in mode enforce", """
        begin;
        insert into regcrm.event (deal_id, kind, actor_id, scenario) values (7, 'scenario', 1, 'meeting');
        update regcrm.deal set stage = 'meeting', meeting_at = now() + interval '2 days' where id = 7 and account_id = 1;
        insert into regcrm.task (deal_id, kind, manager_id, due_at) values (7, 'meeting_control', 1, now() + interval '1 day');
        commit"""),
    ("a task done, a comment, a message", """
        insert into regcrm.task (deal_id, kind, manager_id, due_at) values (8, 'other', 1, now() + interval '1 day');
        update regcrm.task set completed_at = now() where account_id = 1 and id = 35;
        insert into regcrm.event (deal_id, kind, actor_id, body) values (9, 'comment', 1, 'x');
        insert into regcrm.event (deal_id, kind, channel, body) values (9, 'message_in', 'x', 'y')"""),
    ("a new deal, with effects", "insert into regcrm.deal (name, stage, manager_id) values ('x', 'new', 1)"),
    ("a scenario chosen", """select regcrm.choose_scenario(1, 11, 'deferred', '{"return_on": "2030-01-01"}', 'x')"""),
    ("history in mode record", """
        begin;
        set local regcrm.mode = 'record';
        insert into regcrm.event (deal_id, at, kind, actor_id, from_stage, to_stage) values (12, now() - interval '1 h', 'stage', 1, 'deciding', 'lost');
        insert into regcrm.event (deal_id, at, kind, field, value) values (12, now() - interval '1 h', 'field', 'reason', 'дорого');
        delete from regcrm.event where account_id = 1 and id = 13 * 16 + 7;
        commit"""),
    ("judge()", "select * from regcrm.judge(1, 14)"),
    ("check_move()", "select * from regcrm.check_move(1, 14, 'lost')"),
    ("allowed_moves()", "select * from regcrm.allowed_moves(1, 14)"),
    ("a tick", "select regcrm.flag_expired(now() + interval '6 days')"),
    ("waive()", "select regcrm.waive(1, 1, 'x')"),
    ("rejudge()", "select regcrm.rejudge(1)"),
    ("replay()", "select count(*) from regcrm.replay(1, 'idrive')"),
    ("a deal's story", "select * from regcrm.deal_story(1, 14)"),
    ("forget()", "select regcrm.forget(1, 20)"),
]


def ingest(connection, cur):
    """Pages as amoCRM sends them: what is there already is found by key."""
    cur.execute("insert into regcrm.account (id, name, known_until) values (%s, 'synced', '-infinity')", (SYNCED,))
    connection.notices.clear()
    pages = {entity: subprocess.run(["/usr/bin/python3", str(HERE.parent / "bench/firehose.py"), "--pages", entity, "500"], check=True,
                                    stdout=subprocess.PIPE, text=True).stdout.splitlines()[:2] for entity in ("leads", "contacts", "tasks", "notes", "events")}
    # first pages come into an account without rows, of which every index that begins with the account is as good
    for number in (0, 1):
        for entity in pages:
            cur.execute("select regcrm.ingest(%s, %s, %s)", (SYNCED, entity, pages[entity][number]))
            if number == 1:
                check(connection, "ingest() of %s" % entity)
        cur.execute("analyze")
        connection.notices.clear()
    page = pages["events"][1]
    cur.execute("select regcrm.ingest(%s, 'events', %s)", (SYNCED, page))
    check(connection, "ingest() of a page that is known")


def views(connection, cur):
    """Every view that shows deals, asked for one."""
    cur.execute("""
        select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname in ('deal_id', 'id') and a.attnum > 0
        where c.relnamespace = 'regcrm'::regnamespace and c.relkind = 'v'
            and exists (select from pg_attribute x where x.attrelid = c.oid and x.attname = 'account_id')
            and (a.attname = 'deal_id' or c.relname in ('deals')) order by 1""")
    found = cur.fetchall()
    connection.notices.clear()
    for name, column in found:
        cur.execute("select * from regcrm.%s where account_id = 1 and %s = 14" % (name, column))
        cur.fetchall()
        check(connection, "view %s, one deal" % name)


def main():
    load()
    connection, cur = connect()
    connection.notices.clear()
    cur.execute("select from regcrm.event where body = 'no such'")
    tap.ok([plan for _, plan in plans(connection) if any(map(reads_too_much, nodes(plan)))], "a sequential scan is seen where there is one")
    for what, statements in CALLS:
        connection.notices.clear()
        for statement in statements.split(";"):
            cur.execute(statement)
        check(connection, what)
    ingest(connection, cur)
    views(connection, cur)
    missing = [reason for pattern, reason in WHOLE if not any(re.search(pattern, text) for text in seen)]
    tap.ok(not missing, "no exception is older than what it excepts", *missing)


if __name__ == "__main__":
    main()
    tap.done()
