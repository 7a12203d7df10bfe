#!/usr/bin/python3
"""What a refusal says: nothing that the writer may not see, whatever rows hold.

Canaries stand in every text of the deal's rows and of its neighbours; row
security hides them from the writer, column privileges too.  Also: the answer is
the same for one who sees all, and for one whose path is hostile (hazards X1).
Prints TAP.
"""
from story import ACCOUNT, STAGES, Bases, Tap, attempt, connect, done, event, field, make_writer, move, sql, start, task

tap = Tap()
admin, writer = start()
bases = Bases(admin)
CANARY = "канарейка"


def ask(text, *args):
    cur = admin.cursor()
    cur.execute(text, args)
    rows = cur.fetchall() if cur.description else None
    admin.commit()
    return rows


def told(refused):
    return "\n".join([refused.message, refused.detail, refused.hint, refused.context]) if refused else ""


# ---- canaries ----

ask("update regcrm.manager set name = %s, email = %s where account_id = %s", CANARY, CANARY, ACCOUNT)
hidden = bases.make("deciding")
deals = {}
for stage in STAGES:
    deal = deals[stage] = bases.make(stage)
    ask("update regcrm.deal set name = %s, pause_reason = null, custom = jsonb_build_object('x', %s::text), source_name = %s, tags = array[%s]"
        " where account_id = %s and id = %s", CANARY, CANARY, CANARY, CANARY, ACCOUNT, deal)
    ask("update regcrm.task set body = %s, result = %s where account_id = %s and deal_id = %s", CANARY, CANARY, ACCOUNT, deal)
    ask("insert into regcrm.event (account_id, deal_id, kind, body, channel, source, source_id) values (%s, %s, 'call_in', %s, %s, %s, %s)",
        ACCOUNT, deal, CANARY, CANARY, CANARY, str(deal))
bare = {here: [move(there) for there in STAGES if there != here] + [done(), task("other", by_bot=True), event("robot"), event("message_out", by_bot=True)]
        for here in STAGES}
leaks, count = [], 0
for here, acts in bare.items():
    for act in acts:
        refused = attempt(writer, deals[here], [act])
        if refused is not None:
            count += 1
            if CANARY in told(refused) or str(hidden) in told(refused):
                leaks.append(refused)
tap.ok(not leaks, "%d refusals hold no text of any row" % count, *leaks[:3])
tap.ok(count > 80, "there were many", count)
refused = attempt(writer, deals["new"], [sql("select regcrm.choose_scenario(%(a)s, %(d)s, 'nonsense', '{}', %(p0)s)", CANARY)])
tap.ok(refused is not None and CANARY not in told(refused), "choose_scenario says nothing of the comment", refused)

# ---- one who sees nothing but what he writes ----

make_writer(admin.cursor(), "regcrm_booking")
admin.commit()
ask("revoke all on all tables in schema regcrm from regcrm_booking")
ask("grant insert on regcrm.task, regcrm.event to regcrm_booking")
booking = connect()
cur = booking.cursor()
cur.execute("set session authorization regcrm_booking")
booking.commit()
for stage in STAGES:
    for act in (task("other", by_bot=True), event("robot"), task()):
        refused = attempt(booking, deals[stage], [act])
        if refused is None:
            continue
        tap.ok(refused.sqlstate == "23514" and CANARY not in told(refused), "one who may only insert, in %s: refused for the rule, not for want of rights" % stage, refused)
ok = attempt(booking, deals["deciding"], [event("visit")])
tap.ok(ok is None, "one who may only insert: a visit commits", ok)
refused = attempt(booking, 0, [sql("select * from regcrm.check_move(%(a)s, %(p0)s, 'meeting')", deals["deciding"])])
tap.ok(refused is not None, "check_move says nothing of a deal to one who may not read it", refused)
refused = attempt(booking, 0, [sql("select * from regcrm.allowed_moves(%(a)s, %(p0)s)", deals["deciding"])])
tap.ok(refused is not None, "nor does allowed_moves", refused)
refused = attempt(booking, 0, [sql("select regcrm.choose_scenario(%(a)s, %(p0)s, 'meeting')", deals["deciding"])])
tap.ok(refused is not None and refused.sqlstate == "42501", "nor does choose_scenario", refused)

# ---- one who may only read deals: a widget that asks on every click ----

make_writer(admin.cursor(), "regcrm_widget")
admin.commit()
ask("revoke all on all tables in schema regcrm from regcrm_widget")
ask("grant select on regcrm.deal to regcrm_widget")
widget = connect()
cur = widget.cursor()
cur.execute("set session authorization regcrm_widget")
cur.execute("set default_transaction_read_only = on")
widget.commit()
for stage in STAGES:
    answers = []
    for connection in (widget, admin):
        cur = connection.cursor()
        cur.execute("select to_stage::text, rules, titles, hints from regcrm.allowed_moves(%s, %s)", (ACCOUNT, deals[stage]))
        moves = cur.fetchall()
        cur.execute("select array_agg(m.*::text) from unnest(%s::text[]) s, regcrm.check_move(%s, %s, s::regcrm.stage) m", (STAGES, ACCOUNT, deals[stage]))
        answers.append((moves, cur.fetchall()))
        connection.commit()
    tap.ok(answers[0] == answers[1] and (answers[0][0] or stage == "won"), "one who may only read deals is told all about a move from %s" % stage, *answers)

# ---- one who may only begin deals ----

make_writer(admin.cursor(), "regcrm_form")
admin.commit()
ask("revoke all on all tables in schema regcrm from regcrm_form")
ask("grant insert on regcrm.deal to regcrm_form")
form = connect()
cur = form.cursor()
cur.execute("set session authorization regcrm_form")
form.commit()
bases.last += 1
refused = attempt(form, bases.last, [sql("insert into regcrm.deal (account_id, id, stage) values (%(a)s, %(d)s, 'new')")])
tap.ok(refused is None and ask("select count(*) from regcrm.task where deal_id = %s", bases.last) == [(1,)], "one who may only insert deals: effects act all the same", refused)

# ---- row security: the deals of another department ----

ask("alter table regcrm.deal enable row level security")
ask("create policy own on regcrm.deal to regcrm_writer using (id <> %s)" % deals["deciding"])
for call in ("check_move(%(a)s, %(d)s, 'meeting')", "allowed_moves(%(a)s, %(d)s)", "choose_scenario(%(a)s, %(d)s, 'meeting')"):
    refused = attempt(writer, deals["deciding"], [sql("select regcrm.%s" % call)])
    missing = attempt(writer, 555555, [sql("select regcrm.%s" % call)])
    tap.ok(refused is not None and refused.sqlstate == "P0002" and told(refused).replace(str(deals["deciding"]), "N") == told(missing).replace("555555", "N"),
           "%s of a deal that row security hides: as if it were not there" % call.split("(")[0], refused, missing)
    mine = attempt(writer, deals["meeting"], [sql("select regcrm.%s" % call.replace("'meeting'", "'contract'"))])
    tap.ok(mine is None or mine.sqlstate == "23514", "and of one's own it answers", mine)
ask("drop policy own on regcrm.deal")
ask("alter table regcrm.deal disable row level security")

# ---- the same words for everyone ----

deal = bases.make("new")
acts = [field("meeting_at", "'2037-01-31 12:00'"), move("meeting")]
words = told(attempt(writer, deal, acts))
tap.ok("MEET-2" in words and "NEW-2" in words, "a refusal of several rules", words)
both = connect()
tap.same(told(attempt(both, deal, acts)), words, "a superuser reads the same")
for setting, value in [("timezone", "'Asia/Kamchatka'"), ("datestyle", "'German, DMY'"), ("intervalstyle", "'iso_8601'"),
                       ("standard_conforming_strings", "off"), ("search_path", "''"), ("row_security", "on"), ("bytea_output", "'escape'"),
                       ("default_transaction_isolation", "'serializable'"), ("extra_float_digits", "0"), ("quote_all_identifiers", "on")]:
    tap.same(told(attempt(writer, deal, [sql("set local %s = %s" % (setting, value))] + acts)), words, "the same with %s = %s" % (setting, value))

# names of the writer's own before all others
ask("create schema hostile authorization regcrm_writer")
cur = writer.cursor()
for statement in [
        "create function hostile.now() returns timestamptz language sql as 'select timestamptz ''2001-01-01'''",
        "create function hostile.eq(text, text) returns boolean language sql as 'select true'",
        "create operator hostile.= (leftarg = text, rightarg = text, function = hostile.eq)",
        "create function hostile.lower(text) returns text language plpgsql as $$begin raise exception 'hostile %', $1; end$$",
        "create function hostile.count(text) returns bigint language plpgsql as $$begin raise exception 'hostile'; end$$",
        "create table hostile.deal (account_id bigint, id bigint, stage text)", "create table hostile.rule (code text)",
        "create temp table task (account_id bigint, deal_id bigint)", "create temp table event (account_id bigint)"]:
    cur.execute(statement)
writer.commit()
hostile = sql("set local search_path = hostile, pg_temp, pg_catalog")
tap.same(told(attempt(writer, deal, [hostile] + acts)), words, "the same under a hostile path")
refused = attempt(writer, bases.make("new"), [hostile, sql("insert into regcrm.event (account_id, deal_id, kind, answered) values (%(a)s, %(d)s, 'call_out', false)"),
                                              sql("select regcrm.choose_scenario(%(a)s, %(d)s, 'no_answer')")])
tap.ok(refused is None, "effects and choose_scenario under a hostile path", refused)
cur.execute("set search_path = hostile, pg_temp, pg_catalog")
cur.execute("select rule from regcrm.check_move(%s, %s, 'won')", (ACCOUNT, deal))
tap.same(cur.fetchall(), [("FLOW",)], "check_move under a hostile path")
writer.commit()

tap.done()
