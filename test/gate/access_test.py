#!/usr/bin/python3
"""Who may do what: each cell of the tables in docs/access.md is tried.

What a cell allows is planned as a role of that level (EXPLAIN asks for the same
rights as running does, and changes nothing), what it does not allow must fail
with 42501.  Then a day of each level is lived, so that what a function needs
within is there too; and revoke_access() must leave nothing.  Prints TAP.
"""
import os
import re

import psycopg2

from story import ACCOUNT, Bases, Tap, start

tap = Tap()
admin, _ = start()
admin.autocommit = True
cur = admin.cursor()
cur.execute("set jit = off")
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
LEVELS = ["reader", "writer", "operator", "admin"]
ROLES = {level: "access_" + level for level in LEVELS}
NOBODY, REVOKED = "access_nobody", "access_revoked"


def ask(text, *args):
    cur.execute(text, args)
    return cur.fetchall() if cur.description else None


def state(role, statement, *args):
    """SQLSTATE of a statement as a role, rolled back; None = it succeeded."""
    ask("begin")
    ask("set local role " + role)
    try:
        ask(statement, *args)
        return None
    except psycopg2.Error as error:
        return error.pgcode
    finally:
        ask("rollback")


def error_of(statement):
    try:
        ask(statement)
        return None
    except psycopg2.Error as error:
        return error


# ---- docs/access.md is what the database says ----

page = open(os.path.join(TOP, "docs/access.md"), encoding="utf8").read()
written = re.search(r"<!-- written by docs/access.sql -->\n(.*?)<!-- /written", page, re.S).group(1)
query = "".join(line for line in open(os.path.join(TOP, "docs/access.sql"), encoding="utf8"))
says = "\n".join(row[0] for row in ask(query.replace("%", "%%"))) + "\n"
tap.same(written, says, "docs/access.md is what docs/access.sql writes (anew: psql -X -At -f docs/access.sql DATABASE)")

expected = {}           # (part, object) -> {level: set of words}
for part, table in zip(("table", "function"), written.strip().split("\n\n")):
    for line in table.split("\n")[2:]:
        cells = [c.strip() for c in line.strip("|").split("|")]
        name = cells[0].replace("()", "")
        expected[part, name] = {level: set() if cell == "–" else set(re.split(r", (?![^(]*\))", cell))
                                for level, cell in zip(LEVELS, cells[1:])}
tap.ok(len(expected) > 100 and expected["table", "deal"]["writer"] == {"select", "insert", "update"}
       and expected["table", "secret"] == {level: set() for level in LEVELS}, "the tables are read", len(expected))

for role in [NOBODY, REVOKED] + list(ROLES.values()):
    ask("create role %s" % role)
for level, role in ROLES.items():
    ask("select regcrm.grant_access(%s, %s)", role, level)
    ask("select regcrm.grant_access(%s, %s)", REVOKED, level)

# ---- every relation ----

relations = ask("""select c.relname, c.relkind, (select a.attname from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attnum limit 1)
    from pg_class c where c.relnamespace = 'regcrm'::regnamespace and c.relkind in ('r', 'v', 'S', 'm', 'p', 'f') order by 1""")
ATTEMPTS = {"select": "explain select * from regcrm.%(name)s", "insert": "explain insert into regcrm.%(name)s default values",
            "update": "explain update regcrm.%(name)s set %(column)s = null", "delete": "explain delete from regcrm.%(name)s",
            "truncate": "truncate regcrm.%(name)s", "trigger": "create trigger t before insert on regcrm.%(name)s execute function pg_catalog.tsvector_update_trigger()",
            "references": "create temp table t (x bigint references regcrm.%(name)s)", "maintain": "analyze regcrm.%(name)s"}
wrong, count = [], 0
for name, kind, column in relations:
    if kind == "S":
        for role in [NOBODY] + list(ROLES.values()):
            count += 1
            if state(role, "select nextval('regcrm.%s')" % name) != "42501":
                wrong.append("%s: nextval of %s" % (role, name))
        continue
    allowed = expected.get(("table", "every view" if kind == "v" else name))
    if allowed is None:
        wrong.append("%s stands nowhere" % name)
        continue
    for level, role in [(None, NOBODY)] + list(ROLES.items()):
        for word, attempt in ATTEMPTS.items():
            if kind == "v" and word in ("truncate", "trigger", "references", "maintain") or word in ("trigger", "references", "maintain"):
                if kind != "v":
                    count += 1
                    right = ask("select has_table_privilege(%s, 'regcrm.' || %s, %s)", role, name, word)[0][0] if word != "maintain" else False
                    if right:
                        wrong.append("%s may %s %s" % (role, word, name))
                continue
            count += 1
            may = word in (allowed[level] if level else set())
            # a view that writes can't be written tells 55000 before it looks at rights
            got = state(role, attempt % {"name": name, "column": column})
            if may and got == "42501" or not may and got not in (("42501", "55000") if kind == "v" and word != "select" else ("42501",)):
                wrong.append("%s: %s %s gives %s" % (role, word, name, got))
        for cell in allowed[level] if level else ():
            columns = re.match(r"select \((.*)\)", cell)
            if columns:
                count += 2
                if state(role, "explain select %s from regcrm.%s" % (columns.group(1), name)) is not None:
                    wrong.append("%s: the columns %s of %s" % (role, columns.group(1), name))
tap.ok(not wrong and count > 1200, "%d cells of tables and views: what is allowed works, what is not fails with 42501" % count, *wrong[:20])

# ---- every function ----

functions = ask("""select p.oid::regprocedure::text, p.proname, p.prokind, array(select format_type(t, null) from unnest(p.proargtypes) with ordinality u(t, n) order by n),
        has_function_privilege('public', p.oid, 'execute')
    from pg_proc p where p.pronamespace = 'regcrm'::regnamespace and p.prorettype not in ('cstring'::regtype)
        and p.provariadic = 0 and not 'internal'::regtype = any (p.proargtypes) and not 'cstring'::regtype = any (p.proargtypes) order by 1""")
wrong, count = [], 0
for signature, name, kind, types, public in functions:
    allowed = expected.get(("function", name), {level: set() for level in LEVELS})
    nulls = ", ".join("null::" + t for t in types)
    for level, role in [(None, NOBODY)] + list(ROLES.items()):
        if public:
            continue
        count += 1
        may = bool(level and allowed[level])
        if kind == "p":
            got = state(role, "call regcrm.%s(%s)" % (name, nulls))
        else:
            # columns, not constants: a strict function of null is not even asked for
            got = state(role, "explain select regcrm.%s(%s) from (select %s offset 0) x" % (
                name, ", ".join("x.c%d" % n for n in range(len(types))),
                ", ".join("null::%s as c%d" % (t, n) for n, t in enumerate(types)) or "1"))
        # trigger functions can't be planned at all: 0A000 after the right was asked for
        if (got == "42501") == may:
            wrong.append("%s: %s gives %s" % (role, signature, got))
tap.ok(not wrong and count > 900, "%d cells of functions and procedures: what is allowed works, what is not fails with 42501" % count, *wrong[:20])
unknown = [name for part, name in expected if part == "function" and name not in [f[1] for f in functions]]
tap.same(unknown, [], "every function of the table is there")
tap.same(ask("select p.proname from pg_proc p where p.pronamespace = 'regcrm'::regnamespace group by 1 having count(*) > 1"), [],
         "no two functions share a name: which one is called is no question")

for level, role in [(None, NOBODY)] + list(ROLES.items()):
    tap.same([state(role, "create %s" % what) for what in ("table regcrm.t ()", "function regcrm.f() returns int language sql as 'select 1'",
                                                           "view regcrm.v as select 1", "type regcrm.t as (x int)")], ["42501"] * 4,
             "%s makes nothing in the schema" % role)
for role in [ROLES["admin"], ROLES["operator"], NOBODY]:
    for call in ("grant_access('%s', 'admin')", "revoke_access('%s')", "apply_access()", "setup()", "revoke_all('%s')", "grant_level('%s', 'admin')", "note_access('%s', 'admin', true)"):
        tap.same(state(role, "select regcrm." + (call % role if "%s" in call else call)), "42501", "%s can't call %s" % (role, call.split("(")[0]))

# ---- a day of each level ----

bases = Bases(admin)
deal, other = bases.make("new"), bases.make("deciding")
ask("insert into regcrm.secret (account_id, access_token, refresh_token) values (%s, 'canary-access', 'canary-refresh')", ACCOUNT)
ask("insert into regcrm.account (id, name, known_from, known_until, base_url) values (77, 'synced', now() - interval '9 days', now(), 'https://x.amocrm.ru')")
ask("insert into regcrm.quarantine (account_id, entity, error, page) values (77, 'leads', 'e', '{}')")
violation = ask("select min(id) from regcrm.violation")[0][0]


def day(level, *statements):
    bad = []
    for statement in statements:
        ask("begin")
        try:
            ask("set local role " + ROLES[level])
            for part in statement if isinstance(statement, tuple) else (statement,):
                ask(part.replace("%", "%%"))
            ask("set constraints all immediate")
        except psycopg2.Error as error:
            bad.append("%s: %s %s" % (statement, error.pgcode, error))
        finally:
            ask("rollback")
    tap.ok(not bad, "a %s's day: %d acts" % (level, len(statements)), *bad)


views = ["select count(v::text) from regcrm.%s v" % name for name, kind, _ in relations if kind == "v"]
reads = ["select regcrm.judge(%d, %d)" % (ACCOUNT, deal), "select count(*) from regcrm.replay(%d, 'idrive')" % ACCOUNT, "select regcrm.deal_story(%d, %d)" % (ACCOUNT, deal),
                 "select regcrm.rule_cost(%d)" % ACCOUNT, "select regcrm.response_time(%d)" % ACCOUNT, "select regcrm.response_by_hour(%d)" % ACCOUNT,
                 "select regcrm.before_report(%d, now())" % ACCOUNT, "select regcrm.add_business_time(now(), '1 hour', 'daily-9-20')",
                 "select regcrm.business_time_between(now(), now() + interval '1 day', 'ru-5x2')", "select count(*) from regcrm.deal where stage = 'new'",
                 "select stage, count(*) from regcrm.deal group by stage order by stage", "select entity, resolved_at from regcrm.quarantine"]
writes = [("insert into regcrm.deal (account_id, stage) values (%d, 'new')" % ACCOUNT,), "select * from regcrm.check_move(%d, %d, 'meeting')" % (ACCOUNT, deal),
          "select * from regcrm.allowed_moves(%d, %d)" % (ACCOUNT, deal),
          ("update regcrm.deal set lead_date = now() where account_id = %d and id = %d" % (ACCOUNT, deal),
           "select regcrm.choose_scenario(%d, %d, 'no_answer', '{}', 'нет ответа')" % (ACCOUNT, deal)),
          "insert into regcrm.event (account_id, deal_id, kind, answered) values (%d, %d, 'call_out', true)" % (ACCOUNT, other),
          "insert into regcrm.task (account_id, deal_id, due_at) values (%d, %d, now() + interval '1 day')" % (ACCOUNT, other),
          "update regcrm.task set body = 'x' where account_id = %d and deal_id = %d" % (ACCOUNT, other)]
operates = ["select regcrm.rejudge()", "select regcrm.flag_expired()", "select regcrm.pause(77)", "select regcrm.resume(77)", "select regcrm.disconnect(77)",
            "select regcrm.ingest(77, 'users', '{\"_embedded\": {\"users\": [{\"id\": 5, \"name\": \"x\"}]}}')", "select regcrm.ingest_webhook(77, 'leads[add][0][id]=1')",
            "select regcrm.retry_quarantine(77)", "select error, body from regcrm.quarantine", "select regcrm.retention()", "call regcrm.refresh_marts()",
            ("call regcrm.refresh_marts()", "select regcrm.stop_marts()"), "select * from regcrm.jobs()", "select regcrm.want(77, 'leads', '{1}', 'x')", "select regcrm.webhook_due(77)",
            "select regcrm.stop_write_back(77)", "insert into regcrm.inbox (base_url, token) values ('https://x.amocrm.ru', 't')", "select regcrm.stop_workers()"]
administers = ["insert into regcrm.stage_def (stage, name, position) values ('trial', 'Проба', 200)",
               "insert into regcrm.rule (regulation, code, stage, form, event, title) values ('idrive', 'X-1', 'new', 'never', 'call_out', 'x')",
               "update regcrm.rule set enabled = false where code = 'NEW-1'", "delete from regcrm.transition where to_stage = 'won'",
               "select regcrm.change_hours('daily-9-20', current_date + 7, '{1,2}', '{10:00-12:00}')", "delete from regcrm.calendar_day where calendar = 'ru-5x2'",
               "insert into regcrm.stage_map (account_id, pipeline_id, status_id, stage) values (77, 1, 1, 'new')", "insert into regcrm.field_map values (77, 99, 'abc')",
               "insert into regcrm.task_kind_map (account_id, pattern, kind) values (77, 'x', 'callback')", "update regcrm.account set time_zone = 'Asia/Omsk', owner_confirmed_calendar = true",
               "insert into regcrm.account (id, name) values (78, 'third')", "update regcrm.manager set in_scope = false",
               "select regcrm.waive(%d, %d, 'why')" % (ACCOUNT, violation), ("select regcrm.waive(%d, %d, 'why')" % (ACCOUNT, violation), "select regcrm.unwaive(%d, %d)" % (ACCOUNT, violation)),
               "select regcrm.copy_regulation('idrive', 'mine')", "select regcrm.write_back(77)", "select regcrm.remap(77)", "select regcrm.forget(%d, %d)" % (ACCOUNT, deal),
               ("select regcrm.map_manager('access_writer', %d, 1)" % ACCOUNT, "select regcrm.unmap_role('access_writer')"), "select regcrm.map_head('access_reader')",
               ("select regcrm.enable_row_security()", "select count(*) from regcrm.violations", "select regcrm.disable_row_security()"), "select * from regcrm.access", "select regcrm.detach()"]
day("reader", *views + reads)
day("writer", *reads + writes)
day("operator", *reads + operates)
day("admin", *reads + writes + operates + administers)

# forget() is asked of nobody who may set the mode, and leaves it as it was
ask("begin")
ask("set local role " + ROLES["admin"])
ask("select regcrm.forget(%s, %s)", ACCOUNT, deal)
tap.same(ask("select current_setting('regcrm.mode'), current_user::text, (select count(*) from regcrm.deal where id = %s)", deal), [("record", ROLES["admin"], 0)],
         "forget() leaves mode and role as they were, and no deal")
ask("rollback")
tap.same(state(ROLES["admin"], "set regcrm.mode = 'off'"), "42501", "no level may set the mode")
for level in LEVELS:
    tap.same([state(ROLES[level], "select * from regcrm.secret"), state(ROLES[level], "select regcrm.drop_secret(%d)" % ACCOUNT)], ["42501", "42501"], "%s reads no token" % level)

# ---- refusals ----

ask("insert into regcrm.manager (account_id, id, name) values (1, 3, 'O')")
ask("select regcrm.map_manager('access_reader', 1, 2)")

for call, sqlstate, hint in [("grant_access('access_reader', 'king')", "22023", "reader, writer, operator and admin"), ("grant_access('access_reader', null)", "22023", "reader"),
                             ("revoke_access('access_reader', 'king')", "22023", "reader, writer"), ("grant_access('no_such_role', 'reader')", "42704", "CREATE ROLE"),
                             ("grant_access('public', 'reader')", "42704", "PUBLIC"), ("grant_access(null, 'reader')", "42704", ""), ("revoke_access('no_such_role')", "42704", ""),
                             ("grant_access(current_user, 'reader')", "22023", "owner"), ("map_manager('no_such_role', 1, 1)", "42704", ""), ("map_manager('access_writer', 1, 999)", "P0002", "regcrm.manager"),
                             ("map_manager('access_reader', 1, 3)", "23505", "unmap_role"), ("map_manager('access_writer', 1, 2)", "23505", "one role"), ("map_head('no_such_role')", "42704", ""), ("map_head('access_reader', 999)", "42704", "regcrm.account"), ("enable_row_security(999)", "42704", "regcrm.account")]:
    error = error_of("select regcrm." + call)
    tap.ok(error is not None and error.pgcode == sqlstate and hint in (error.diag.message_hint or ""), "%s: %s" % (call, sqlstate), error)

# ---- taking away ----

ask("select regcrm.revoke_access(%s, 'admin')", REVOKED)
tap.same([state(REVOKED, s) for s in ("select regcrm.waive(1, 1, 'x')", "explain update regcrm.rule set enabled = true", "select regcrm.retention()", "explain insert into regcrm.event default values")],
         ["42501", "42501", None, None], "of several levels one is taken away, the others stay")
ask("select regcrm.revoke_access(%s, 'operator')", REVOKED)
tap.same([state(REVOKED, s) for s in ("select regcrm.retention()", "explain select * from regcrm.quarantine", "explain select entity from regcrm.quarantine", "explain insert into regcrm.event default values")],
         ["42501", "42501", None, None], "... and what two brought differently goes with the one")
ask("grant usage on sequence regcrm.deal_id_seq to %s" % REVOKED)
ask("grant truncate, update (name) on regcrm.deal to %s" % REVOKED)
ask("select regcrm.revoke_access(%s)", REVOKED)
left = ask("select count(*) from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = %s::regrole and d.dbid = (select oid from pg_database where datname = current_database())", REVOKED)[0][0]
tap.same((left, ask("select count(*) from regcrm.access where role = %s", REVOKED)[0][0]), (0, 0), "revoke_access() leaves nothing, nor what was granted by hand")
wrong = [name for name, kind, _ in relations if kind != "S" and state(REVOKED, "explain select * from regcrm.%s" % name) != "42501"]
tap.same(wrong, [], "... of no table or view")
wrong = [name for _, name, kind, types, public in functions if kind == "f" and not public
         and state(REVOKED, "explain select regcrm.%s(%s)" % (name, ", ".join("null::" + t for t in types))) != "42501"]
tap.same(wrong, [], "... of no function")
ask("drop role %s" % REVOKED)

# who granted more than revoke_access() may take is named
ask("grant select on regcrm.deal to access_reader with grant option")
ask("set role access_reader")
ask("grant select on regcrm.deal to access_nobody")
ask("reset role")
error = error_of("select regcrm.revoke_access('access_nobody')")
tap.ok(error is not None and error.pgcode == "2B000" and "regcrm.deal (by access_reader)" in error.diag.message_detail, "what others granted is not left behind in silence", error)
ask("revoke grant option for select on regcrm.deal from access_reader cascade")

# ---- setup() of a next version ----

ask("revoke select on regcrm.task, regcrm.violations from access_reader")
ask("revoke execute on function regcrm.judge from access_writer")
ask("create role access_gone")
ask("select regcrm.grant_access('access_gone', 'admin')")
ask("drop owned by access_gone")
ask("select regcrm.setup()")
tap.same([state("access_reader", "explain select * from regcrm.task"), state("access_reader", "explain select * from regcrm.violations"),
          state("access_writer", "explain select regcrm.judge(1, 1)")], [None, None, None], "setup() grants what the levels lack")
tap.same(state("access_gone", "explain select * from regcrm.deal"), "42501", "... but not to one who lost all by other means")
ask("create view regcrm.users_own as select 1 as x")
ask("select regcrm.setup()")
tap.same(state("access_admin", "explain select * from regcrm.users_own"), "42501", "nor a view of the user's own in the schema")

tap.done()
