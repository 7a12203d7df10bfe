#!/usr/bin/python3
"""What a low-privileged role plants is run by nobody but himself.

mallory may log in, make a schema of his own and temporary objects, and has level
writer; row security is on, and he is a manager.  He shadows every function,
operator, type and table that regcrm could name (in his schema and in pg_temp),
makes more specific overloads, leaky functions that look cheap, views over our
views, tables whose constraints call his code, a false pg_cron.  Whatever he made
raises an error that names who runs it.  Then everybody works with the path
that he would like them to have.  (hazards X1, X3, X4, X5, X8.)  Prints TAP.
"""
import re

import psycopg2

from story import ACCOUNT, Bases, Tap, connect, start

tap = Tap()
admin, _ = start("attack_other")
bases = Bases(admin)
deals = {stage: bases.make(stage) for stage in ("new", "in_work", "deciding", "meeting", "lost")}
admin.autocommit = True
cur = admin.cursor()


def ask(text, *args):
    cur.execute(text, args or None)
    return cur.fetchall() if cur.description else None


def one(text, *args):
    return ask(text, *args)[0][0]


def error_of(statement, role=None, path=None, connection=None):
    """The error of a statement, rolled back; None = it succeeds."""
    c = (connection or admin).cursor()
    c.execute("begin")
    try:
        if role:
            c.execute("set local role " + role)
        if path:
            c.execute("set local search_path = " + path)
        for part in statement if isinstance(statement, (list, tuple)) else [statement]:
            c.execute(part)
        c.execute("set constraints all immediate")
        return None
    except psycopg2.Error as error:
        return error
    finally:
        c.execute("rollback")


ROLES = {"attack_operator": "operator", "attack_admin": "admin", "attack_head": "writer", "attack_mallory": "writer"}
for role, level in ROLES.items():
    ask("create role %s login" % role)
    ask("select regcrm.grant_access(%s, %s)", role, level)
ask("create schema mallory authorization attack_mallory")
ask("grant usage on schema mallory to public")
ask("insert into regcrm.manager (account_id, id, name) values (%s, 7, 'Мэллори')", ACCOUNT)
ask("select regcrm.map_manager('attack_mallory', %s, 7), regcrm.map_head('attack_head'), regcrm.enable_row_security()", ACCOUNT)
ask("insert into regcrm.secret (account_id, access_token) values (%s, 'canary-token')", ACCOUNT)
ask("update regcrm.deal set name = 'тайна ' || id where account_id = %s", ACCOUNT)
mine = bases.make("new")
ask("set regcrm.mode = 'off'")
ask("update regcrm.deal set manager_id = 7, name = 'моя' where id = %s", mine)
ask("set regcrm.mode = 'record'")
ask("select regcrm.rejudge()")

mallory = connect()
mallory.autocommit = True
m = mallory.cursor()
m.execute("set session authorization attack_mallory")
m.execute("set jit = off")
ask("set jit = off")

# ---- what he plants ----

# every function of the server that a body of ours names without a schema, with
# exactly its arguments; and more specific ones of those that take anything
bodies = " ".join(r[0] for r in ask("select p.prosrc from pg_proc p where p.pronamespace = 'regcrm'::regnamespace and p.prosrc <> ''"))
named = sorted(set(re.findall(r"(?<![.\w])([a-z_0-9]+)\s*\(", bodies.lower())))
shadows = ask("""select p.proname, pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid), p.proretset
    from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and p.proname = any (%s)
    and not exists (select from unnest(array_append(p.proargtypes::oid[], p.prorettype)) t join pg_type y on y.oid = t and y.typtype = 'p')
    and p.provariadic = 0""", named)
planted = 0
HOSTILE = "language plpgsql as $$begin raise exception 'hostile % as %', {name}, current_user using errcode = 'ZZ001'; end$$"
for where in ("mallory",):      # pg_temp is never searched for functions and operators
    for name, arguments, result, _ in shadows:
        try:
            m.execute("create function %s.\"%s\"(%s) returns %s %s" % (where, name, arguments, result, HOSTILE.replace("{name}", "'%s'" % name)))
            planted += 1
        except psycopg2.Error:
            pass
    for name, arguments, result in [("format", "text, text", "text"), ("format", "text, name", "text"), ("format", "text, text, text", "text"), ("concat_ws", "text, text, text", "text"),
                                    ("array_agg", "text", "text[]"), ("count", "bigint", "bigint"), ("to_jsonb", "text", "jsonb"), ("array_length", "text[], int", "int"), ("cardinality", "text[]", "int"),
                                    ("array_to_string", "text[], text", "text"), ("unnest", "text[]", "setof text"), ("unnest", "bigint[]", "setof bigint"), ("quote_literal", "bigint", "text"),
                                    ("jsonb_build_object", "text, text", "jsonb"), ("min", "timestamptz", "timestamptz"), ("max", "timestamptz", "timestamptz")]:
        m.execute("create function %s.\"%s\"(%s) returns %s %s" % (where, name, arguments, result, HOSTILE.replace("{name}", "'%s'" % name)))
        planted += 1
tap.ok(planted > 150, "%d functions are planted" % planted, len(named), len(shadows))

operators = 0
for left in ("text", "bigint", "integer", "name", "boolean", "timestamptz", "oid", "\"char\"", "jsonb", "text[]", "date", "regcrm.stage", "interval"):
    m.execute("create function mallory.op(%s, %s) returns boolean %s" % (left, left, HOSTILE.replace("{name}", "'operator'")))
    for op in ("=", "<>", "<", ">", "<=", ">="):
        for where in ("mallory",):
            m.execute("create operator %s.%s (leftarg = %s, rightarg = %s, function = %s.op)" % (where, op, left, left, where))
            operators += 1
for n, (op, left, right, result) in enumerate([
        ("||", "text", "text", "text"), ("->>", "jsonb", "text", "text"), ("->", "jsonb", "text", "jsonb"), ("~", "text", "text", "boolean"), ("!~", "text", "text", "boolean"),
        ("~~", "text", "text", "boolean"), ("+", "timestamptz", "interval", "timestamptz"), ("-", "timestamptz", "timestamptz", "interval"), ("+", "bigint", "bigint", "bigint"),
        ("@>", "tstzrange", "timestamptz", "boolean"), ("&&", "tstzrange", "tstzrange", "boolean"), ("?", "jsonb", "text", "boolean"), ("=", "name", "text", "boolean"),
        ("=", "bigint", "integer", "boolean"), ("~", "name", "text", "boolean")]):
    m.execute("create function mallory.op_%d(%s, %s) returns %s %s" % (n, left, right, result, HOSTILE.replace("{name}", "'operator'")))
    m.execute("create operator mallory.%s (leftarg = %s, rightarg = %s, function = mallory.op_%d)" % (op, left, right, n))
    operators += 1
tap.ok(operators > 80, "%d operators are planted" % operators)
relations = [r[0] for r in ask("select c.relname from pg_class c where c.relnamespace = 'regcrm'::regnamespace and c.relkind in ('r', 'v')")] + [
    "pg_class", "pg_proc", "pg_roles", "pg_namespace", "pg_trigger", "pg_extension", "pg_policy", "pg_attribute", "pg_type", "pg_depend"]
for name in relations:
    m.execute("create table mallory.\"%s\" (id bigint, account_id bigint, deal_id bigint, name text)" % name)
    m.execute("create temp table \"%s\" (id bigint, account_id bigint, deal_id bigint, name text)" % name)
for name in ("text", "bigint", "jsonb", "timestamptz", "regclass", "stage", "name", "record", "interval"):
    m.execute("create domain mallory.\"%s\" as pg_catalog.int4 check (value < 0)" % name)
m.execute("create type mallory.fake as (x int)")
m.execute("create function mallory.to_bigint(mallory.fake) returns bigint " + HOSTILE.replace("{name}", "'cast'"))
m.execute("create cast (mallory.fake as bigint) with function mallory.to_bigint(mallory.fake) as implicit")
e = error_of("select count(*) from regcrm.deal where name = 'x'", path="mallory, pg_catalog")
tap.ok(e is not None and e.pgcode == "ZZ001" and "as %s" % one("select current_user") in str(e), "what is planted would bite: an unqualified name runs it", e)

# ---- everybody works with that path ----

violation = one("select min(id) from regcrm.violation where resolved_at is null and waived_at is null")
ask("insert into regcrm.account (id, name, known_from, known_until, base_url) values (77, 'synced', now() - interval '5 days', now(), 'https://x.amocrm.ru')")
ask("insert into regcrm.quarantine (account_id, entity, error, page) values (77, 'leads', 'e', '{}')")
PAGE = '{"_embedded": {"leads": [{"id": 501, "name": "x", "status_id": 1, "pipeline_id": 1, "created_at": 1772000000, "updated_at": 1772000000, "responsible_user_id": 5}]}}'
A, D = ACCOUNT, deals["new"]
views = [r[0] for r in ask("select c.relname from pg_class c where c.relnamespace = 'regcrm'::regnamespace and c.relkind = 'v' order by 1")]
reads = ["select v.* from regcrm.%s v" % v for v in views] + [
    "select j.* from regcrm.judge(%d, %d) j" % (A, D), "select j.* from regcrm.replay(%d, 'idrive') j" % A, "select j.* from regcrm.deal_story(%d, %d) j" % (A, D), "select j.* from regcrm.rule_cost(%d) j" % A,
    "select j.* from regcrm.response_time(%d) j" % A, "select j.* from regcrm.response_by_hour(%d) j" % A, "select j.* from regcrm.before_report(%d, '2026-01-01'::pg_catalog.timestamptz) j" % A,
    "select regcrm.add_business_time('2026-05-05 10:00'::pg_catalog.timestamptz, '1 hour'::pg_catalog.interval, 'daily-9-20')"]
writes = ["select j.* from regcrm.check_move(%d, %d, 'meeting') j" % (A, D), "select j.* from regcrm.allowed_moves(%d, %d) j" % (A, D),
          ["insert into regcrm.event (account_id, deal_id, kind, answered) values (%d, %d, 'call_out', false)" % (A, D), "select regcrm.choose_scenario(%d, %d, 'no_answer', '{}', 'x')" % (A, D)],
          "update regcrm.deal d set reason = 'x', stage = 'deciding' where false",
          "insert into regcrm.task (account_id, deal_id, due_at) values (%d, %d, '2055-01-01')" % (A, D)]
operates = ["select regcrm.rejudge()", "select regcrm.flag_expired()", "select regcrm.pause(77)", "select regcrm.resume(77)", "select regcrm.disconnect(77)", "select regcrm.ingest(77, 'leads', '%s')" % PAGE,
            "select regcrm.ingest_webhook(77, 'leads[add][0][id]=1&account[id]=77')", "select regcrm.retry_quarantine(77)", "select regcrm.retention()", ["call regcrm.refresh_marts()", "call regcrm.refresh_marts()", "select regcrm.stop_marts()"],
            "select j.* from regcrm.jobs() j", "select regcrm.want(77, 'leads', '{1}', 'x')", "select regcrm.webhook_due(77)", "select regcrm.stop_write_back(77)"]
administers = ["select regcrm.waive(%d, %d, 'why')" % (A, violation), "select regcrm.copy_regulation('idrive', 'mine')", "select regcrm.change_hours('daily-9-20', '2055-01-01', '{1}', '{10:00-12:00}')",
               "select regcrm.write_back(77)", "select regcrm.remap(77)", "select regcrm.forget(%d, %d)" % (A, D), "select regcrm.map_manager('attack_head', %d, 1)" % A, "select regcrm.map_head('attack_operator', %d)" % A,
               "select regcrm.unmap_role('attack_head')", ["select regcrm.disable_row_security()", "select regcrm.enable_row_security()"], "select regcrm.detach()",
               "insert into regcrm.stage_def (stage, name, position) values ('trial', 'Проба', 200)", "update regcrm.rule r set enabled = false", "update regcrm.account a set time_zone = 'Asia/Omsk'",
               "insert into regcrm.stage_map (account_id, pipeline_id, status_id, stage) values (77, 1, 1, 'new')", "insert into regcrm.field_map (account_id, field_id, field) values (77, 99, 'abc')",
               "insert into regcrm.task_kind_map (account_id, pattern, kind) values (77, 'x', 'callback')"]
owns = ["select regcrm.setup()", "select regcrm.grant_access('attack_head', 'admin')", "select regcrm.revoke_access('attack_head')", "select regcrm.apply_access()", ["select regcrm.detach()", "select regcrm.setup()"]]
ask("reset regcrm.mode")
HOSTILE_PATH = "mallory, pg_temp, pg_catalog"
for role, acts in [("attack_head", reads + writes), ("attack_operator", reads + operates), ("attack_admin", reads + writes + operates + administers),
                   (None, reads + writes + operates + administers + owns)]:
    bitten, failed = [], []
    for act in acts:
        error = error_of(act, role, HOSTILE_PATH)
        if error is not None and ("hostile" in str(error) or error.pgcode == "ZZ001"):
            bitten.append((act, error))
        elif error is not None:
            failed.append((act, error))
    tap.ok(not bitten, "%d acts of %s under a hostile path: nothing planted is run" % (len(acts), role or "the owner, a superuser"), *bitten[:5])
    tap.ok(not failed, "... and all do what they do", *failed[:5])
temp = error_of(["create temp table deal (account_id bigint, id bigint)", "create temp table rule (code text)", "create temp table account (id bigint)", "create temp table installed (views text[])",
                 "select regcrm.rejudge()", "select regcrm.setup()"])
tap.ok(temp is None, "temporary tables of the same names are not taken for ours", temp)

# in mallory's own session, where pg_temp is full of it: what runs as the owner runs none of it
bitten = []
for act in [["insert into regcrm.event (account_id, deal_id, kind, answered) values (%d, %d, 'call_out', false)" % (A, mine), "select regcrm.choose_scenario(%d, %d, 'no_answer', '{}', 'x')" % (A, mine)]] + [
        "select c.* from regcrm.check_move(%d, %d, 'meeting') c" % (A, mine), "select v.id from regcrm.violations v", "select d.id from regcrm.deal d"]:
    error = error_of(act, path="mallory, pg_temp, pg_catalog", connection=mallory)
    if error is not None:
        bitten.append((act, error))
tap.ok(not bitten, "nor does it reach what runs as the owner in his own session", *bitten)

# ---- overloads ----

for role in list(ROLES):
    got = [error_of(s, role) for s in ("create function regcrm.label(name, name) returns text language sql as 'select 1::text'", "create or replace function regcrm.label(text, text) returns text language sql as 'select 1::text'",
                                       "create operator regcrm.= (leftarg = bigint, rightarg = bigint, function = pg_catalog.int8eq)", "create view regcrm.deal_health as select 1", "alter function regcrm.label(text, text) owner to current_user",
                                       "alter view regcrm.violations set (security_invoker = false)", "drop view regcrm.violations", "create cast (text as regcrm.stage) without function")]
    tap.ok(all(e is not None and e.pgcode in ("42501", "42710", "42P07", "42P17") for e in got), "%s can't add to, replace or change what is in the schema" % role, *got)

# ---- leaks ----

m.execute("create function mallory.leak(text) returns boolean language plpgsql cost 0.0000001 as $$begin raise notice 'leak: %', $1; return true; end$$")
m.execute("create function mallory.leak(bigint) returns boolean language plpgsql cost 0.0000001 as $$begin raise notice 'leak: %', $1; return true; end$$")
m.execute("create view mallory.mine as select d.id, d.name from regcrm.deal d where mallory.leak(d.name)")
m.execute("create view mallory.theirs with (security_invoker) as select v.deal_id, v.deal_name from regcrm.violations v where mallory.leak(v.deal_name)")
m.execute("grant select on mallory.mine, mallory.theirs to public")
m.execute("set client_min_messages = notice")
del mallory.notices[:]
hidden = [str(d) for d in deals.values()]
for query in ("select 1 from regcrm.deal d where mallory.leak(d.name)", "select 1 from regcrm.deal d where mallory.leak(d.id)", "select 1 from regcrm.violations v where mallory.leak(v.deal_name)",
              "select 1 from regcrm.deal_health v where mallory.leak(v.deal_name)", "select 1 from regcrm.upcoming_deadlines v where mallory.leak(v.deal_name)", "select 1 from regcrm.event e where mallory.leak(e.body)",
              "select 1 from regcrm.deal_timeline v where mallory.leak(v.deal_id)", "select 1 from mallory.mine", "select 1 from mallory.theirs",
              "select 1 from regcrm.deal d join regcrm.event e on e.account_id = d.account_id and e.deal_id = d.id where mallory.leak(e.deal_id) and mallory.leak(d.name)",
              "select 1 from regcrm.deal d where case when d.name like 'тайна%' then 1 / (d.price::int - d.price::int) = 1 end",
              "update regcrm.deal set name = name where mallory.leak(name)", "delete from regcrm.task t where mallory.leak(t.deal_id)",
              "select 1 from regcrm.contact c where mallory.leak(c.name)", "select * from regcrm.deal_story(%d, %d) s where mallory.leak(s::text)" % (A, D)):
    m.execute("begin")
    m.execute(query)
    m.execute("rollback")
told = "".join(mallory.notices)
tap.ok("leak: моя" in told, "a leaky function sees his own rows", told[:300])
tap.ok("тайна" not in told and not any(re.search(r"leak: %s\b" % d, told) for d in hidden), "... and, however cheap it says it is, no row of others", told[:600])
m.execute("select count(*) from pg_catalog.pg_stats s where s.schemaname operator(pg_catalog.=) 'regcrm'::pg_catalog.name and s.tablename operator(pg_catalog.=) 'deal'::pg_catalog.name")
ask("analyze regcrm.deal")
m.execute("select count(*) from pg_catalog.pg_stats s where s.schemaname operator(pg_catalog.=) 'regcrm'::pg_catalog.name and s.tablename operator(pg_catalog.=) 'deal'::pg_catalog.name")
tap.same(m.fetchone()[0], 0, "statistics tell him nothing")
tap.same(getattr(error_of(["set local row_security = off", "select d.id from regcrm.deal d"], connection=mallory), "pgcode", None), "42501", "row security can't be turned off by who is bound")

# a view with its owner's rights shows to the one what the other may not share
ask("create view public.shared as select d.id, d.name from regcrm.deal d")
ask("alter view public.shared owner to attack_head")
ask("grant select on public.shared to public")
m.execute("select count(*) from public.shared")
shared = m.fetchone()[0]
ask("begin")
ask("set local role attack_head")
whole = one("select count(*) from public.shared")
ask("rollback")
tap.ok(shared <= 1 and whole > 5, "a head's view shows a manager no more than he may see", shared, whole)
m.execute("prepare p as select d.id from regcrm.deal d")
m.execute("execute p")
tap.same(len(m.fetchall()), 1, "a prepared query shows his")
ask("prepare p as select d.id from regcrm.deal d")
ask("execute p")
ask("begin")
ask("set local role attack_mallory")
tap.same(len(ask("execute p")), 1, "... also one that a superuser prepared in the same session")
ask("rollback")
before = ask("select d::text from regcrm.deal d order by id")
for statement in ("insert into regcrm.deal (account_id, id, stage, manager_id) values (%d, %d, 'new', 7) on conflict (account_id, id) do update set name = 'x'" % (A, D),
                  "insert into regcrm.event (account_id, id, deal_id, kind) select account_id, id, %d, 'comment' from regcrm.event" % D):
    error_of(statement, connection=mallory)
tap.same(ask("select d::text from regcrm.deal d order by id"), before, "ON CONFLICT changes nothing that is hidden")

# ---- triggers, rules, defaults, constraints ----

for statement in ("create trigger t before insert on regcrm.event for each row execute function mallory.t()", "create rule r as on insert to regcrm.event do also select 1", "alter table regcrm.event alter body set default 'x'",
                  "alter table regcrm.event add check (mallory.leak(body))", "create index on regcrm.event (mallory.leak(body))", "create policy p on regcrm.deal using (true)", "alter table regcrm.deal disable row level security",
                  "alter table regcrm.deal disable trigger all", "comment on table regcrm.deal is 'x'", "truncate regcrm.event", "lock table regcrm.secret", "select regcrm.grant_access('attack_mallory', 'admin')",
                  "select regcrm.as_owner_of('regcrm.deal', 'drop table regcrm.deal')", "select regcrm.forget_by_owner(1, 1)", "select regcrm.note_access('attack_mallory', 'admin', true)", "select regcrm.renew_access()",
                  "select regcrm.ensure_trigger('regcrm.deal', 't', 'x')", "select regcrm.make_policies()", "update regcrm.manager set db_role = 'attack_mallory'", "insert into regcrm.head (role) values ('attack_mallory')"):
    errors = [error_of(statement, role) for role in ("attack_mallory", "attack_operator")]
    tap.ok(all(e is not None and e.pgcode == "42501" for e in errors), "not for a writer or operator: %s" % statement.split("(")[0][:60], *errors)
tap.same(getattr(error_of("select regcrm.as_owner_of('regcrm.deal', 'select 1')", "attack_admin"), "pgcode", None), "42501", "nor for an admin: to act as the owner of a table")

# a table of his with a stage in it: detach() and setup() change it, and its constraint calls his code
m.execute("create table mallory.own (s regcrm.stage, n int)")
m.execute("insert into mallory.own values ('new', 1)")
m.execute("create table mallory.log (who name)")
m.execute("grant insert on mallory.log to public")
for t in ("regcrm.stage", "text"):
    m.execute("create function mallory.spy(%s) returns boolean language plpgsql as $$begin insert into mallory.log values (current_user); return true; end$$" % t)
m.execute("alter table mallory.own add constraint spying check (mallory.spy(s))")
m.execute("truncate mallory.log")
m.execute("drop view mallory.theirs, mallory.mine")
ask("drop view public.shared")
ask("begin")
ask("select regcrm.detach()")
tap.same(one("select format_type(atttypid, null) from pg_attribute where attrelid = 'mallory.own'::regclass and attname = 's'"), "text", "detach() by a superuser changes a stage in a table of his")
ask("select regcrm.setup()")
spies = {r[0] for r in ask("select who from mallory.log")}
ask("rollback")
tap.same(spies, {"attack_mallory"}, "... whose constraint runs as its owner, there and in setup()")
m.execute("drop table mallory.own")

# a schema cron with what schedule_jobs() would call
if not ask("select from pg_extension where extname = 'pg_cron'"):
    ask("create schema cron authorization attack_mallory")
    m.execute("create table cron.job (jobid bigint, jobname text, database text)")
    m.execute("insert into cron.job values (1, 'regcrm x', current_database())")
    m.execute("create function cron.schedule(text, text, text) returns bigint " + HOSTILE.replace("{name}", "'cron'"))
    m.execute("create function cron.unschedule(bigint) returns bigint " + HOSTILE.replace("{name}", "'cron'"))
    ask("grant usage on schema cron to public")
    m.execute("grant select on cron.job to public")
    for call in ("schedule_jobs", "unschedule_jobs"):
        error = error_of("select regcrm.%s()" % call)
        tap.ok(error is not None and error.pgcode == "55000", "%s() takes no false pg_cron for the true one" % call, error)
else:
    tap.ok(True, "pg_cron is here: no false one can be")

# ---- the secret ----

for role in ROLES:
    got = [getattr(error_of(s, role), "pgcode", None) for s in ("select * from regcrm.secret", "select s::text from regcrm.secret s", "update regcrm.secret set access_token = null", "select regcrm.drop_secret(%d)" % A, "table regcrm.inbox")]
    tap.same(got, ["42501"] * 5, "%s does not come at a token" % role)

tap.done()
