"""Warehouses of any size out of the simulated account: a year of a driving school's deals.

The simulator (test/amocrm) tells 30 days of 2,000 deals.  They are synced into the database "seed" as a real account would
be, and kept there in two versions: as they stand when the 30 days end, and as they ended, with what was still open closed
five days later.  Both are judged there.  A warehouse is as many copies of the seed as it takes, each moved back by a whole
number of weeks, so that weekdays and working hours stay what they were: the copies that are not moved as they stand, the
others as they ended.  Ids move by a billion with each copy.  Rows are written week by week in the order in which
they happened, as a warehouse would have received them; indexes are built afterwards.

The findings are copied along with the facts; rejudge() then sets right what their evidence points to, and must find nothing
else: neither a duty nor a breach is new or gone, which shows that the copies are as good as the judge's own work.
"""
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib import connect, say

HERE = Path(__file__).resolve().parent
ACCOUNT = 30111222
SEED_DEALS = 2000
WEEKS = 52
#: the tables that a copy consists of, and the column that says when a row came
TABLES = {"deal": "created_at", "task": "created_at", "event": "at", "deadline": "arose_at", "violation": "breached_at",
          "next_moment": "at", "contact": "updated_at", "deal_contact": None}
#: what else the sync has filled, and is not copied
EMPTIED = ["mart_duty", "mart_state", "mart_dirty", "wanted", "other_event", "quarantine"]


def create(name, template=None):
    with connect("postgres") as cur:
        cur.execute('drop database if exists "%s" with (force)' % name)
        cur.execute('create database "%s"%s' % (name, ' template "%s"' % template if template else ""))
    if template is None:
        with connect(name) as cur:
            cur.execute("create extension regcrm")
            cur.execute("select regcrm.setup()")
            cur.execute('alter database "%s" set timezone = \'Europe/Moscow\'' % name)


def exists(name):
    with connect("postgres") as cur:
        cur.execute("select from pg_database where datname = %s and not datistemplate and datallowconn", (name,))
        return cur.fetchone() is not None


def seed():
    """Syncs the simulated account into the database "seed"."""
    if exists("seed"):
        return
    began = time.time()
    create("seed_new")
    run = Path(os.environ["BENCH_OUT"])
    port, log = run / "port", open(run / "simulator.log", "w")
    port.unlink(missing_ok=True)
    simulator = subprocess.Popen(
        ["/usr/bin/python3", str(HERE.parent / "amocrm/sim.py"), "--seed", os.environ.get("BENCH_SEED", "1"), "--days", "30",
         "--deals", str(SEED_DEALS), "--port-file", str(port), "--token", "token", "--truth", str(run / "truth.jsonl"), "--rate", "0"],
        stdout=log, stderr=log)
    try:
        while not port.exists() or not port.read_text():
            if simulator.poll() is not None or time.time() - began > 120:
                raise RuntimeError("the simulator does not start, see simulator.log")
            time.sleep(.1)
        with connect("seed_new") as cur:
            cur.execute("set regcrm.allow_http = on")
            cur.execute("set regcrm.requests_per_second = 1000")
            cur.execute("call regcrm.connect(%s, token => 'token')", ("http://127.0.0.1:" + port.read_text().strip(),))
            account = cur.fetchone()[0]
            assert account == ACCOUNT, account
            cur.execute("call regcrm.sync(%s)", (ACCOUNT,))
    finally:
        simulator.send_signal(signal.SIGTERM)
        simulator.wait()
    prepare("seed_new")
    with connect("postgres") as cur:
        cur.execute('alter database seed_new rename to seed')
    say("seed: %d deals of the simulated account, synced and judged, %.0f s" % (SEED_DEALS, time.time() - began))


def prepare(database):
    """Makes the schemas now_ (as it stands) and end_ (as it ended) of what the simulator told."""
    with connect(database) as cur:
        cur.execute("set regcrm.mode = 'off'")
        cur.execute("select known_until from regcrm.account")
        until = cur.fetchone()[0]
        # the copies come from the year before
        cur.execute("update regcrm.account set known_from = known_from - interval '500 days'")
        cur.execute("update regcrm.feed set since = since - interval '500 days' where isfinite(since)")
        cur.execute("select regcrm.rejudge()")
        keep(cur, "now_", until)
        # five days later all that was still open is closed, and so are its tasks
        cur.execute("""
            create temp table closing as
                select d.id, d.stage, d.manager_id, a.known_until + interval '5 days' + make_interval(secs => d.id %% 30000) as at
                from regcrm.deal d join regcrm.account a on a.id = d.account_id
                where d.stage is not null and d.stage::text not in ('lost', 'unqualified', 'won') and not d.is_deleted;
            insert into regcrm.event (account_id, id, deal_id, at, kind, by_bot, actor_id, field, value, source, source_id)
                select %(a)s, 700000000000 + id * 4, id, at, 'field', false, manager_id, 'reason', 'не отвечает', 'amocrm:event', 'f' || id
                from closing;
            insert into regcrm.event (account_id, id, deal_id, at, kind, by_bot, actor_id, from_stage, to_stage, source, source_id)
                select %(a)s, 700000000001 + id * 4, id, at, 'stage', false, manager_id, stage, 'lost', 'amocrm:event', 's' || id from closing;
            update regcrm.deal d set stage = 'lost', reason = coalesce(reason, 'не отвечает'), closed_at = c.at, updated_at = c.at
                from closing c where d.id = c.id;
            update regcrm.task t set completed_at = c.at, updated_at = c.at from closing c where t.deal_id = c.id and t.completed_at is null;
            update regcrm.task t set completed_at = a.known_until + interval '5 days' from regcrm.account a where t.completed_at is null and t.deleted_at is null;
            update regcrm.account set known_until = known_until + interval '400 days';
            """, {"a": ACCOUNT})
        cur.execute("set regcrm.mode = 'enforce'")
        cur.execute("select regcrm.rejudge()")
        keep(cur, "end_", until)
        cur.execute("update regcrm.account set known_until = %s", (until,))


def keep(cur, schema, until):
    cur.execute("create schema %s" % schema)
    for table, at in TABLES.items():
        cur.execute("create table %s.%s as table regcrm.%s" % (schema, table, table))
        # the week in which a row came, counted back from the end of the account
        if at:
            cur.execute("alter table %s.%s add column week int" % (schema, table))
            cur.execute("update %s.%s set week = floor(extract(epoch from %s - %%s) / 604800)" % (schema, table, at), (until,))
            cur.execute("create index on %s.%s (week)" % (schema, table))
    for table in ("deal", "task", "event", "contact"):
        cur.execute("update %s.%s set raw = null" % (schema, table))
    for table in TABLES:
        cur.execute("analyze %s.%s" % (schema, table))


def expression(table, column, type_):
    """What a column of a copied row holds; k is the copy's number, s what it is moved by."""
    if column in ("deal_id", "task_id") or column == "id" and table in ("deal", "task", "violation", "contact") or column == "contact_id":
        return "x.%s + k.n * 1000000000::bigint" % column
    if (table, column) == ("event", "id"):
        # as the sync derives it
        return "hashtextextended(x.source || ':' || x.source_id || '-' || k.n, 0) & x'3fffffffffffffff'::bigint"
    if (table, column) == ("event", "source_id"):
        return "case when x.source_id is not null then x.source_id || '-' || k.n end"
    if type_ in ("timestamp with time zone",):
        return "x.%s - k.s" % column
    if type_ == "date":
        return "x.%s - k.weeks * 7" % column
    if (table, column) == ("event", "value"):
        # moments and dates are text there
        return ("case when x.kind = 'field' and x.value ~ '^\\d{4}-\\d\\d-\\d\\d$' then (x.value::date - k.weeks * 7)::text"
                " when x.kind = 'field' and x.value ~ '^\\d{4}-\\d\\d-\\d\\d[ T]' then (x.value::timestamptz - k.s)::text else x.value end")
    return "x." + column


def warehouse(deals, weeks=WEEKS):
    """A database with so many deals, begun in so many weeks; returns its name.  Made once."""
    name = "bench_%d_%d" % (deals, weeks)
    if exists(name):
        return name
    seed()
    began = time.time()
    new = name + "_new"
    create(new, "seed")
    copies = max(1, round(deals / SEED_DEALS))
    with connect(new) as cur:
        cur.execute("""
            create table copies as
                select n, case when %(c)s < %(w)s and n > 0 then n * (%(w)s / %(c)s) else n %% %(w)s end as weeks
                from generate_series(0, %(c)s - 1) n;
            alter table copies add column s interval;
            update copies set s = make_interval(weeks => weeks);
            analyze copies""", {"c": copies, "w": weeks})
        cur.execute("set session_replication_role = replica")
        definitions = drop_indexes(cur)
        cur.execute("truncate %s" % ", ".join("regcrm." + table for table in list(TABLES) + EMPTIED))
    # the largest first, so that two cores end together
    in_parallel([lambda table=table: copy_rows(new, table, weeks) for table in ("deadline", "event", "task", "deal", "contact", "deal_contact", "violation", "next_moment")])
    say("%s: rows written, %.0f s" % (name, time.time() - began))
    in_parallel([lambda sql=sql: execute(new, sql) for sql in sorted(definitions, key=lambda sql: "deadline" not in sql and "event" not in sql)])
    say("%s: indexes built, %.0f s" % (name, time.time() - began))
    in_parallel([lambda table=table: execute(new, "vacuum analyze regcrm." + table) for table in TABLES])
    with connect(new) as cur:
        cur.execute("set client_min_messages = warning")
        cur.execute("select * from regcrm.rejudge(%s)", (ACCOUNT,))
        say("%s: (deals, changed, deadlines, violations new, changed, withdrawn) %s, %.0f s" % (name, cur.fetchone(), time.time() - began))
        cur.execute("vacuum analyze")
        cur.execute("select (select count(*) from regcrm.deal), (select count(*) from regcrm.task), (select count(*) from regcrm.event), "
                    "(select count(*) from regcrm.deadline), (select count(*) from regcrm.violation), pg_size_pretty(pg_database_size(current_database()))")
        say("%s: %d deals, %d tasks, %d events, %d deadlines, %d violations, %s; %.0f s" % ((name,) + cur.fetchone() + (time.time() - began,)))
    with connect("postgres") as cur:
        cur.execute('alter database "%s" rename to "%s"' % (new, name))
        cur.execute("checkpoint")
    return name


def drop_indexes(cur):
    """Drops keys and indexes of what is copied; returns how to make them again."""
    cur.execute("""
        select format('alter table %%s drop constraint %%I', conrelid::regclass, conname),
            format('alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
        from pg_constraint where contype in ('p', 'u') and conrelid = any (%s::regclass[])
        union all
        select format('drop index %%s', indexrelid::regclass), pg_get_indexdef(indexrelid)
        from pg_index i where indrelid = any (%s::regclass[]) and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
        """, (["regcrm." + table for table in TABLES],) * 2)
    both = cur.fetchall()
    for drop, _ in both:
        cur.execute(drop)
    return [make for _, make in both]


def copy_rows(database, table, weeks):
    at = TABLES[table]
    with connect(database, session_replication_role="replica", synchronous_commit="off", work_mem="256MB") as cur:
        cur.execute("""
            select attname, format_type(atttypid, null) from pg_attribute
            where attrelid = ('regcrm.' || %s)::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum""", (table,))
        columns = cur.fetchall()
        names = ", ".join('"%s"' % name for name, _ in columns)
        values = ", ".join('%s as "%s"' % (expression(table, name, type_), name) for name, type_ in columns)
        if at is None:
            cur.execute("insert into regcrm.%s (%s) select %s from end_.%s x cross join copies k" % (table, names, values, table))
            return
        cur.execute("select min(week) - %d, max(week) from (select week from now_.%s union all select week from end_.%s) x" % (weeks, table, table))
        first, last = cur.fetchone()
        source = "select %s from %%s.%s x join copies k on %%s" % (values, table)
        for week in range(first, last + 1) if first is not None else ():
            # copies of the last week are as they stand, those before as they ended
            cur.execute("insert into regcrm.%s (%s) select * from (%s union all %s) both_ order by \"%s\"" % (
                table, names, source % ("now_", "k.weeks = 0 and x.week = %d" % week),
                source % ("end_", "k.weeks > 0 and x.week = %d + k.weeks" % week), at))


def execute(database, sql):
    with connect(database, maintenance_work_mem="512MB", max_parallel_maintenance_workers="0") as cur:
        cur.execute(sql)


def in_parallel(works):
    """On two cores, in connections of their own."""
    with ThreadPoolExecutor(2) as pool:
        for work in [pool.submit(work) for work in works]:
            work.result()


if __name__ == "__main__":
    import sys
    warehouse(int(sys.argv[1]))
