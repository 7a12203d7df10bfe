#!/usr/bin/python3
"""Ways around the gate, each closed: whatever writes a fact, the verdict is that
of a plain INSERT or UPDATE.

Prints TAP.  Connects by the usual PG* variables, as a superuser, to a database
with regcrm.
"""
import io
import os

import psycopg2

from story import (ACCOUNT, Bases, Refused, Tap, attempt, breaches, comment, connect, done, event, facts, field,
                   make_writer, move, reason, scenario, sql, start, task)

tap = Tap()
admin, writer = start()
both = connect()        # a superuser in mode enforce
bases = Bases(admin)


def admin_does(text, *args):
    cur = admin.cursor()
    cur.execute(text, args)
    rows = cur.fetchall() if cur.description else None
    admin.commit()
    return rows


def refused_as(name, refused, *codes, place=None):
    """It was refused as a breach of just these rules."""
    return tap.ok(refused is not None and refused.sqlstate == "23514" and refused.rules == sorted(codes) and
                  (place is None or refused.place == place), "%s: refused as %s" % (name, ", ".join(codes)), refused)


def refused_somehow(name, refused, deal=None, before=None):
    """It was refused with a clear error: not an internal one, with a hint or a detail, or for want of privilege."""
    return tap.ok(refused is not None and refused.sqlstate[:2] not in ("XX", "58", "40") and
                  (refused.hint or refused.detail or refused.sqlstate == "42501"), "%s: refused" % name, refused)


def commits(name, refused):
    return tap.ok(refused is None, "%s: commits" % name, refused)


def copy(table, columns, line):
    def act(cur, deal):
        cur.copy_expert("copy regcrm.%s (%s) from stdin" % (table, columns),
                        io.StringIO(line.replace("$a", str(ACCOUNT)).replace("$d", str(deal)) + "\n"))
    act.text = "copy " + table
    return act


def new_key():
    bases.last += 1
    return bases.last


# ---- COPY, many rows, ON CONFLICT, MERGE, views ----

refused_as("COPY of a deal", attempt(writer, new_key(), [copy("deal", "account_id, id, stage", "$a\t$d\twon")]), "FLOW", place="statement")
commits("COPY of a deal that begins well", attempt(writer, new_key(), [copy("deal", "account_id, id, stage, manager_id", "$a\t$d\tnew\t1")]))
refused_as("COPY of a task", attempt(writer, bases.make("lost"), [
    copy("task", "account_id, deal_id, kind, due_at", "$a\t$d\tother\t2030-01-01")]), "LOST-4")
refused_as("COPY of an event", attempt(writer, bases.make("messaging"), [
    copy("event", "account_id, deal_id, kind, by_bot", "$a\t$d\tmessage_out\tt")]), "CHAT-2")

one, two, three = new_key(), new_key(), new_key()
refused = attempt(writer, two, [sql("insert into regcrm.deal (account_id, id, stage, manager_id) values"
                                    " (%(a)s, %(p0)s, 'new', 1), (%(a)s, %(d)s, 'meeting', 1), (%(a)s, %(p1)s, 'new', 1)", one, three)])
refused_as("many deals of which one begins wrong", refused, "FLOW", place="statement")
tap.ok(refused and "deal %d " % two in refused.message, "and it is the one that is named", refused)
good, bad = bases.make("deciding"), bases.make("messaging")
refused = attempt(writer, good, [sql("update regcrm.deal set stage = 'won' where account_id = %(a)s and id in (%(d)s, %(p0)s)", bad)])
refused_as("many rows of which one moves wrong", refused, "FLOW", place="statement")
tap.ok(refused and "deal %d " % bad in refused.message, "and it is the one that is named", refused)
many = [bases.make("deciding") for _ in range(9)]
refused = attempt(writer, 0, [sql("update regcrm.task set completed_at = now() where account_id = %(a)s and deal_id = any (%(p0)s)", many)])
refused_as("nine deals without a task", refused, "DEC-3")
named = sum(str(d) in refused.message + refused.detail for d in many) if refused else 0
tap.ok(refused and 1 <= named < 9 and str(9 - named) in refused.detail, "the first few are named, the rest counted", refused)

deal = bases.make("new")
refused_as("ON CONFLICT DO UPDATE", attempt(writer, deal, [
    sql("insert into regcrm.deal (account_id, id, stage) values (%(a)s, %(d)s, 'new')"
        " on conflict (account_id, id) do update set stage = 'won'")]), "FLOW", place="statement")
commits("ON CONFLICT DO NOTHING", attempt(writer, deal, [
    sql("insert into regcrm.deal (account_id, id, stage) values (%(a)s, %(d)s, 'new') on conflict do nothing")]))
# the row proposed is none: it is not judged as a beginning
commits("ON CONFLICT DO UPDATE with the old stage", attempt(writer, bases.make("meeting"), [
    sql("insert into regcrm.deal (account_id, id, stage, name) values (%(a)s, %(d)s, 'meeting', 'x')"
        " on conflict (account_id, id) do update set stage = excluded.stage, name = excluded.name")]))
refused_as("MERGE, matched", attempt(writer, deal, [
    sql("merge into regcrm.deal t using (select %(a)s::bigint as a, %(d)s::bigint as d) s on t.account_id = s.a and t.id = s.d"
        " when matched then update set stage = 'won' when not matched then do nothing")]), "FLOW", place="statement")
refused_as("MERGE, not matched", attempt(writer, new_key(), [
    sql("merge into regcrm.deal t using (select %(a)s::bigint as a, %(d)s::bigint as d) s on t.account_id = s.a and t.id = s.d"
        " when matched then do nothing when not matched then insert (account_id, id, stage) values (s.a, s.d, 'deciding')")]),
           "FLOW", place="statement")
refused_as("MERGE that deletes the only task", attempt(writer, bases.make("deciding"), [
    sql("merge into regcrm.task t using (select %(a)s::bigint as a, %(d)s::bigint as d) s on t.account_id = s.a and t.deal_id = s.d"
        " when matched then delete")]), "DEC-3")
admin_does("create view public.my_deal as select * from regcrm.deal")
admin_does("create view public.my_task with (security_invoker) as select * from regcrm.task where completed_at is null")
admin_does("grant all on public.my_deal, public.my_task to regcrm_writer")
refused_as("a writable view of deals", attempt(writer, deal, [
    sql("update public.my_deal set stage = 'won' where account_id = %(a)s and id = %(d)s")]), "FLOW", place="statement")
refused_as("a writable view of tasks", attempt(writer, bases.make("deciding"), [
    sql("delete from public.my_task where account_id = %(a)s and deal_id = %(d)s")]), "DEC-3")
refused_as("a WITH that writes", attempt(writer, deal, [
    sql("with w as (update regcrm.deal set stage = 'contract' where account_id = %(a)s and id = %(d)s returning id) select count(*) from w")]),
           "NEW-2", "ONC-2")
admin_does("create function public.f(d bigint) returns void language sql security definer"
           " begin atomic update regcrm.deal set stage = 'won' where id = d; end")
refused_as("a SECURITY DEFINER function of a superuser", attempt(writer, deal, [sql("select public.f(%(d)s)")]), "FLOW", place="statement")

# ---- keys ----

deal, other, lost = bases.make("deciding"), bases.make("messaging"), bases.make("lost")
to_other = sql("update regcrm.task set deal_id = %(p0)s where account_id = %(a)s and deal_id = %(d)s", other)
refused_as("the only task given to another deal", attempt(writer, deal, [to_other]), "DEC-3")
refused_as("a task given to a closed deal", attempt(writer, deal, [
    task(), sql("update regcrm.task set deal_id = %(p0)s where account_id = %(a)s and deal_id = %(d)s and created_at = now()", lost)]), "LOST-4")
admin_does("insert into regcrm.account (id, known_from) values (77, '2020-01-01')")
before = facts(admin, deal)
for name, act in [
        ("the key of a deal", sql("update regcrm.deal set id = id + 500000 where account_id = %(a)s and id = %(d)s")),
        ("the account of a deal", sql("update regcrm.deal set account_id = 77 where account_id = %(a)s and id = %(d)s")),
        ("the deal of an event", sql("update regcrm.event set deal_id = %(p0)s where account_id = %(a)s and deal_id = %(d)s and kind = 'call_out'", other)),
        ("the account of an event", sql("update regcrm.event set account_id = 77 where account_id = %(a)s and deal_id = %(d)s and kind = 'call_out'")),
        ("the account of the only task", sql("update regcrm.task set account_id = 77 where account_id = %(a)s and deal_id = %(d)s"))]:
    refused = attempt(writer, deal, [act])
    refused_somehow(name + " changed", refused)
    tap.ok(facts(admin, deal) == before, "and nothing is changed")

# ---- tasks ----

refused_as("DELETE of the only task", attempt(writer, deal, [
    sql("delete from regcrm.task where account_id = %(a)s and deal_id = %(d)s")]), "DEC-3")
refused_as("the only task marked as deleted", attempt(writer, deal, [
    sql("update regcrm.task set deleted_at = now() where account_id = %(a)s and deal_id = %(d)s")]), "DEC-3")
refused_as("a control task turned into another kind", attempt(writer, bases.make("meeting"), [
    sql("update regcrm.task set kind = 'other' where account_id = %(a)s and deal_id = %(d)s and completed_at is null")]), "MEET-2")
refused_somehow("a task that is to be completed tomorrow", attempt(writer, deal, [
    sql("update regcrm.task set completed_at = now() + interval '1 day' where account_id = %(a)s and deal_id = %(d)s")]))
refused_somehow("a task created tomorrow", attempt(writer, bases.make("messaging"), [
    sql("insert into regcrm.task (account_id, deal_id, created_at, due_at) values (%(a)s, %(d)s, now() + interval '1 day', now() + interval '2 days')")]))

# ---- history ----

admin_does("grant truncate on regcrm.deal, regcrm.task, regcrm.event to regcrm_writer")
for table in ("deal", "task", "event"):
    refused_somehow("TRUNCATE of " + table, attempt(writer, 0, [sql("truncate regcrm.%s cascade" % table)]))
deal = bases.make("in_work")
before = facts(admin, deal)
for name, act in [
        ("an event deleted", sql("delete from regcrm.event where account_id = %(a)s and deal_id = %(d)s and kind = 'call_out'")),
        ("a comment deleted", sql("delete from regcrm.event where account_id = %(a)s and deal_id = %(d)s and kind = 'comment'")),
        ("an event moved in time", sql("update regcrm.event set at = at - interval '1 day' where account_id = %(a)s and deal_id = %(d)s and kind = 'call_out'")),
        ("an event made another", sql("update regcrm.event set answered = false where account_id = %(a)s and deal_id = %(d)s and kind = 'call_out'")),
        ("a robot's act made a person's", sql("update regcrm.event set by_bot = not by_bot where account_id = %(a)s and deal_id = %(d)s and kind = 'scenario'")),
        ("a move rewritten", sql("update regcrm.event set to_stage = 'deciding' where account_id = %(a)s and deal_id = %(d)s and kind = 'stage' and from_stage is not null")),
        ("a move deleted", sql("delete from regcrm.event where account_id = %(a)s and deal_id = %(d)s and kind = 'stage' and from_stage is not null")),
        ("a stage event inserted", sql("insert into regcrm.event (account_id, deal_id, kind, from_stage, to_stage) values (%(a)s, %(d)s, 'stage', 'in_work', 'deciding')")),
        ("a stage event inserted with an instant of yesterday", sql(
            "insert into regcrm.event (account_id, deal_id, at, kind, from_stage, to_stage) values (%(a)s, %(d)s, now() - interval '1 day', 'stage', 'in_work', 'deciding')")),
        ("a call of tomorrow", sql("insert into regcrm.event (account_id, deal_id, at, kind) values (%(a)s, %(d)s, now() + interval '1 day', 'call_out')")),
        ("a comment an hour ahead", sql("insert into regcrm.event (account_id, deal_id, at, kind) values (%(a)s, %(d)s, now() + interval '1 hour', 'comment')")),
        ("a deal created tomorrow", sql("insert into regcrm.deal (account_id, id, stage, created_at) values (%(a)s, %(d)s + 700000, 'new', now() + interval '1 day')"))]:
    refused_somehow(name, attempt(writer, deal, [act]))
    tap.ok(facts(admin, deal) == before, "and nothing is changed")
commits("a call that happened an hour ago", attempt(writer, deal, [
    sql("insert into regcrm.event (account_id, deal_id, at, kind, answered) values (%(a)s, %(d)s, now() - interval '1 hour', 'call_out', true)")]))
commits("a message that came two days ago", attempt(writer, deal, [
    sql("insert into regcrm.event (account_id, deal_id, at, kind) values (%(a)s, %(d)s, now() - interval '2 days', 'message_in')")]))
# what a field held is told by its column: an event beside it would let the two differ
deal = bases.make("new", lead_date=False)
refused = attempt(writer, deal, [sql("insert into regcrm.event (account_id, deal_id, kind, field, value) values (%(a)s, %(d)s, 'field', 'reason', 'x')")])
tap.ok(refused is not None or admin_does("select reason from regcrm.deal where account_id = %s and id = %s", ACCOUNT, deal) == [("x",)],
       "a field event inserted is refused, or the column follows it", refused)

# ---- out of the regulation's sight ----

deal = bases.make("new")
for name, columns in [("as not in the regulation", "in_regulation = false"), ("as deleted", "is_deleted = true, deleted_at = now()"),
                      ("as deleted yesterday", "is_deleted = true, deleted_at = now() - interval '1 day'")]:
    # a deleted deal is judged up to its deletion, so what it is moved to then is nobody's concern, until it is marked back
    deal = bases.make("new")
    both_at_once = attempt(writer, deal, [sql("update regcrm.deal set stage = 'won', %s where account_id = %%(a)s and id = %%(d)s" % columns)])
    if both_at_once is None:
        back = attempt(writer, deal, [sql("update regcrm.deal set in_regulation = true, is_deleted = false, deleted_at = null where account_id = %(a)s and id = %(d)s")])
        tap.ok(back is not None or breaches(admin, deal), "a deal marked %s with the move is not let through unseen" % name, back)
    else:
        tap.ok(True, "a deal marked %s with the move is refused" % name)
    deal = bases.make("new")
    first = attempt(writer, deal, [sql("update regcrm.deal set %s where account_id = %%(a)s and id = %%(d)s" % columns)])
    second = attempt(writer, deal, [move("won")])
    third = attempt(writer, deal, [sql("update regcrm.deal set in_regulation = true, is_deleted = false, deleted_at = null where account_id = %(a)s and id = %(d)s")])
    if name == "as not in the regulation":
        tap.ok(first is not None or second is not None, "a writer can't take a deal out of the regulation", first, second)
    stands = admin_does("select stage::text from regcrm.deal where account_id = %s and id = %s", ACCOUNT, deal)[0][0]
    tap.ok(stands != "won" or third is not None or breaches(admin, deal),
           "a deal marked %s, moved, and marked back is not let through unseen" % name, first, second, third)
refused_somehow("stage set to null", attempt(writer, bases.make("new"), [field("stage", "null")]))
deal = new_key()
first = attempt(writer, deal, [sql("insert into regcrm.deal (account_id, id, manager_id) values (%(a)s, %(d)s, 1)")])
second = attempt(writer, deal, [move("won")]) if first is None else first
tap.ok(second is not None, "a deal begun without a stage does not get to won by that", first, second)

deal = bases.make("lost")
first = attempt(writer, deal, [sql("delete from regcrm.deal where account_id = %(a)s and id = %(d)s")])
second = attempt(writer, deal, [sql("insert into regcrm.deal (account_id, id, stage, manager_id) values (%(a)s, %(d)s, 'new', 1)")]) if first is None else first
tap.ok(second is not None, "a deal deleted and begun again does not come out of lost by that", first, second)

# ---- the extension's own ways ----

for early in (False, True):
    session = psycopg2.connect("", user="regcrm_writer")
    cur = session.cursor()
    if not early:
        cur.execute("select regcrm.judging_due('regcrm.deal')")
    try:
        cur.execute("set regcrm.ingesting = on")
        session.commit()
    except psycopg2.Error:
        session.rollback()
    refused_as("regcrm.ingesting set by a writer%s" % (" before the library is loaded" if early else ""),
               attempt(session, bases.make("new"), [move("won")]), "FLOW", place="statement")
    session.close()
for call in ("regcrm.ingest(%(a)s, 'leads', '{\"_embedded\": {\"leads\": [{\"id\": 3, \"status_id\": 142, \"pipeline_id\": 1, \"created_at\": 1700000000}]}}')",
             "regcrm.ingest_webhook(%(a)s, 'leads[status][0][id]=3')",
             "regcrm.rejudge(%(a)s)", "regcrm.judge_deals(%(a)s, array[1]::bigint[])", "regcrm.forget(%(a)s, 1)", "regcrm.detach()", "regcrm.setup()"):
    refused = attempt(writer, 0, [sql("select " + call)])
    tap.ok(refused is not None and refused.sqlstate in ("42501", "42883"), "%s is nothing for a writer" % call.split("(")[0], refused)

# ---- who added a task is history too ----

deal = bases.make("new")
attempt(writer, deal, [task()])
before = breaches(admin, deal), admin_does("select rule, withdrawn_at is null from regcrm.violation where account_id = %s and deal_id = %s", ACCOUNT, deal)
refused = attempt(writer, deal, [sql("update regcrm.task set by_bot = true where account_id = %(a)s and deal_id = %(d)s")])
tap.ok(("NEW-13", True) in before[1], "a task added by hand in new is a breach on record", before)
tap.ok(refused is not None or ("NEW-13", True) in admin_does(
    "select rule, withdrawn_at is null from regcrm.violation where account_id = %s and deal_id = %s", ACCOUNT, deal),
       "who added a task, rewritten: the breach does not vanish", refused)

# ---- prepared statements, cursors, security-restricted operations (hazards G4) ----

deal = bases.make("messaging")
cur = writer.cursor()
cur.execute("prepare w (bigint, boolean) as insert into regcrm.task (account_id, deal_id, by_bot, due_at) values (%d, $1, $2, now() + interval '1 day')" % ACCOUNT)
writer.commit()
for i in range(8):
    commits("a prepared statement, time %d" % i, attempt(writer, deal, [sql("execute w(%(d)s, false)")]))
refused_as("a prepared statement with a generic plan", attempt(writer, deal, [sql("execute w(%(d)s, true)")]), "CHAT-5")
refused_as("UPDATE WHERE CURRENT OF", attempt(writer, bases.make("deciding"), [
    sql("declare c cursor for select * from regcrm.task where account_id = %(a)s and deal_id = %(d)s and completed_at is null for update"),
    sql("fetch c"), sql("update regcrm.task set completed_at = now() where current of c")]), "DEC-3")
admin_does("create function public.writes(d bigint) returns bigint language plpgsql as"
           " $$begin insert into regcrm.event (account_id, deal_id, kind, by_bot) values (1, d, 'robot', true); return d; end$$")
admin_does("create materialized view public.mv as select public.writes(d) from (values (%s::bigint)) v(d) with no data", deal)
refused_somehow("a materialized view that writes facts", attempt(both, deal, [sql("refresh materialized view public.mv")]))
admin_does("drop materialized view public.mv")

# ---- a block that commits by itself ----

admin_does("create procedure public.commits(d bigint) language plpgsql as $$begin"
           " update regcrm.deal set name = 'kept' where id = d; commit;"
           " update regcrm.task set completed_at = now() where deal_id = d and completed_at is null; commit;"
           " update regcrm.deal set name = 'not kept' where id = d; end$$")
deal = bases.make("deciding")
writer.autocommit = True
try:
    writer.cursor().execute("call public.commits(%s)", (deal,))
    tap.ok(False, "each transaction of a procedure is judged")
except psycopg2.Error as error:
    refused_as("a procedure that commits", Refused(error, "commit"), "DEC-3")
writer.autocommit = False
tap.same(admin_does("select name from regcrm.deal where id = %s", deal), [("kept",)], "what it committed before stays, the rest does not")

# ---- tables and rules that change while a session has them in its caches (hazards G10, G11) ----

deal = bases.make("deciding")
warm = connect(role="regcrm_writer")
refused_as("with warm caches", attempt(warm, deal, [done()]), "DEC-3")
admin_does("alter table regcrm.deal add column own integer default 5, drop column if exists nothing")
admin_does("alter table regcrm.task add column own text default 'x'")
admin_does("alter table regcrm.event add column own jsonb")
refused_as("after columns were added", attempt(warm, deal, [done()]), "DEC-3")
refused_as("after columns were added, a move", attempt(warm, deal, [move("in_work")]), "FLOW", place="statement")
admin_does("alter table regcrm.deal drop column own")
admin_does("alter table regcrm.task drop column own")
admin_does("alter table regcrm.event drop column own")
refused_as("after they were dropped", attempt(warm, deal, [done()]), "DEC-3")
commits("and the completed write", attempt(warm, deal, [done(), task()]))
renamed = bases.make("deciding")
admin_does("alter table regcrm.deal rename column reason to why")
refused = attempt(warm, renamed, [comment, field("name", "'x'")])
tap.ok(refused is not None and "reason" in refused.message + refused.detail, "a column renamed that the gate needs: a clear error", refused)
admin_does("alter table regcrm.deal rename column why to reason")
commits("and back", attempt(warm, deal, [comment]))
disable = sql("update regcrm.rule set enabled = false where regulation = 'idrive' and code = 'DEC-3'")
cur = both.cursor()
disable(cur, 0)
done()(cur, deal)
cur.execute("set constraints all immediate")
both.rollback()
refused_as("a rule switched off and that rolled back", attempt(both, deal, [done()]), "DEC-3")
commits("a rule switched off in the transaction that writes", attempt(both, deal, [disable, done()]))
commits("and then nobody is refused for it", attempt(warm, bases.make("deciding"), [done()]))
admin_does("update regcrm.rule set enabled = true where regulation = 'idrive' and code = 'DEC-3'")
refused_as("switched on again", attempt(warm, bases.make("deciding"), [done()]), "DEC-3")
warm.close()

# ---- replication ----

deal = bases.make("deciding")
replica = connect()
cur = replica.cursor()
cur.execute("set session_replication_role = replica")
replica.commit()
refused = attempt(replica, deal, [done()])
if refused is None:
    changed = admin_does("select (j).violations_new from regcrm.rejudge(%s) j", ACCOUNT)[0][0]
    admin_does("select regcrm.flag_expired(now() + interval '1 hour')")
    tap.same(breaches(admin, deal), ["DEC-3"], "what a replicating session wrote, rejudge finds")
else:
    refused_as("a session that replicates", refused, "DEC-3")
    tap.ok(True, "so nothing is left to be found")
writer.rollback()
refused_somehow("a writer who would replicate", attempt(writer, 0, [sql("set session_replication_role = replica")]))
refused_somehow("a writer who would disable triggers", attempt(writer, 0, [sql("alter table regcrm.deal disable trigger all")]))

# ---- users' triggers (hazards G7) ----

admin_does("""create function public.zzz() returns trigger language plpgsql as $$begin
    if new.name = 'to won' then new.stage := 'won'; elsif new.name = 'to null' then new.stage := null; end if; return new; end$$""")
admin_does("create trigger zzz before insert or update on regcrm.deal for each row execute function public.zzz()")
deal = bases.make("deciding")
refused = attempt(writer, deal, [field("name", "'to won'")])
tap.ok(refused is not None and "WON-1" in refused.rules, "a BEFORE trigger zzz that moves the deal: judged as it is stored", refused)
refused_as("a BEFORE trigger zzz that moves the deal illegally", attempt(writer, bases.make("new"), [field("name", "'to won'")]), "FLOW", place="statement")
refused_as("a BEFORE trigger zzz that changes where a deal begins", attempt(writer, new_key(), [
    sql("insert into regcrm.deal (account_id, id, stage, name) values (%(a)s, %(d)s, 'new', 'to won')")]), "FLOW", place="statement")
refused_somehow("a BEFORE trigger zzz that empties the stage", attempt(writer, deal, [field("name", "'to null'")]))
admin_does("drop trigger zzz on regcrm.deal")
admin_does("""create function public.after() returns trigger language plpgsql as $$begin
    update regcrm.task set completed_at = now() where account_id = new.account_id and deal_id = new.id and completed_at is null; return null; end$$""")
admin_does("create trigger aaa after update of name on regcrm.deal for each row execute function public.after()")
refused_as("an AFTER trigger that completes the only task", attempt(writer, deal, [field("name", "'x'")]), "DEC-3")
admin_does("drop trigger aaa on regcrm.deal")
admin_does("create constraint trigger zzz after update on regcrm.deal deferrable initially deferred for each row execute function public.after()")
refused_as("a deferred trigger that completes the only task after the gate has judged", attempt(writer, deal, [field("name", "'x'")]), "DEC-3")
admin_does("drop trigger zzz on regcrm.deal")

# ---- row security (hazards G9) ----

deal, lost = bases.make("deciding"), bases.make("messaging")
attempt(admin, lost, [task()])
for table, hidden in [("task", "task"), ("event", "event")]:
    admin_does("alter table regcrm.%s enable row level security" % table)
    admin_does("create policy hide on regcrm.%s for select to regcrm_writer using (false)" % table)
    admin_does("create policy hide_more on regcrm.%s for update to regcrm_writer using (false)" % table)
    admin_does("create policy let on regcrm.%s for insert to regcrm_writer with check (true)" % table)
cur = writer.cursor()
cur.execute("select (select count(*) from regcrm.task) + (select count(*) from regcrm.event)")
tap.same(cur.fetchone()[0], 0, "row security hides tasks and events from the writer")
writer.commit()
refused_as("an open task hidden by row security", attempt(writer, lost, [reason, move("lost")]), "LOST-4")
commits("a task that is needed, hidden by row security", attempt(writer, deal, [comment, field("name", "'y'")]))
deal = bases.make("messaging")
attempt(admin, deal, [task()])
commits("a move that needs the hidden task and the hidden contact", attempt(writer, deal, [comment, move("deciding")]))
refused_as("a contact that is not there, hidden or not", attempt(writer, bases.make("new", contact=False), [scenario("in_work"), move("in_work")]), "WRK-1")
for table in ("task", "event"):
    admin_does("drop policy hide on regcrm.%s" % table)
    admin_does("drop policy hide_more on regcrm.%s" % table)
    admin_does("drop policy let on regcrm.%s" % table)
    admin_does("alter table regcrm.%s disable row level security" % table)

# ---- role and mode between the write and the commit (hazards G3) ----

def steps(*acts, mode=None):
    """Acts of a superuser's transaction; strings are SQL."""
    refused = attempt(both, deal, [a if callable(a) else sql(a) for a in acts])
    c = both.cursor()
    c.execute("reset role")
    c.execute("reset regcrm.mode")
    both.commit()
    return refused


deal = bases.make("deciding")
refused_as("mode record set after the write", steps(done(), "set local regcrm.mode = record"), "DEC-3")
refused_as("mode off set after the write", steps(done(), "set regcrm.mode = off"), "DEC-3")
refused_as("written in enforce, then another deal in record", steps(done(), "set local regcrm.mode = record", sql(
    "insert into regcrm.event (account_id, deal_id, kind) values (%(a)s, %(p0)s, 'comment')", bases.make("messaging"))), "DEC-3")
commits("written in record, committed in enforce", steps("set local regcrm.mode = record", done(), "set local regcrm.mode = enforce"))
admin_does("select regcrm.flag_expired(now() + interval '1 hour')")
tap.same(breaches(admin, deal), ["DEC-3"], "and the breach is recorded")
deal = bases.make("deciding")
commits("written in off, committed in enforce", steps("set local regcrm.mode = off", done(), "set local regcrm.mode = enforce"))
deal = bases.make("deciding")
admin_does("create function public.recording(d bigint) returns void language sql security definer set regcrm.mode = record as"
           " 'update regcrm.task set completed_at = now() where deal_id = d and completed_at is null'")
commits("written by a function that sets record, committed in enforce", attempt(writer, deal, [sql("select public.recording(%(d)s)")]))
deal = bases.make("deciding")
admin_does("create function public.enforcing(d bigint) returns void language sql set regcrm.mode = enforce as"
           " 'update regcrm.task set completed_at = now() where deal_id = d and completed_at is null'")
refused_as("written by a function that sets enforce, committed in record", steps("set local regcrm.mode = record", "select public.enforcing(%(d)s)"), "DEC-3")
if not admin_does("select 1 from pg_roles where rolname = 'regcrm_nobody'"):
    admin_does("create role regcrm_nobody")
admin_does("grant regcrm_nobody to regcrm_writer")
deal = bases.make("messaging")
commits("SET ROLE to one without any privilege before the commit", steps("set local role regcrm_writer", task(), "set local role regcrm_nobody"))
refused_as("the same with a breach", steps("set local role regcrm_writer", task("other", by_bot=True), "set local role regcrm_nobody"), "CHAT-5")
refused_as("a breach written as a writer, committed as a superuser", steps("set local role regcrm_writer", task("other", by_bot=True), "reset role"), "CHAT-5")
refused_as("a superuser in mode enforce", steps(task("other", by_bot=True)), "CHAT-5")

# ---- who may set the mode ----

make_writer(admin.cursor(), "regcrm_loader")
admin.commit()
admin_does("grant set on parameter regcrm.mode to regcrm_loader")
for mode in ("record", "off"):
    for how in ("set regcrm.mode = %s", "set local regcrm.mode = %s", "select set_config('regcrm.mode', '%s', false)",
                "alter role regcrm_writer set regcrm.mode = %s", "alter database postgres set regcrm.mode = %s"):
        refused = attempt(writer, 0, [sql(how % mode)])
        tap.ok(refused is not None and refused.sqlstate == "42501", "%s by a writer: refused" % (how % mode), refused)
    refused = attempt(writer, bases.make("messaging"), [sql("do $$begin perform set_config('regcrm.mode', '%s', true); exception when others then null; end$$" % mode),
                                                        task("other", by_bot=True)])
    refused_as("mode %s, the refusal swallowed" % mode, refused, "CHAT-5")
    # before the library is loaded the setting is a mere placeholder, which anyone may set
    os.environ["PGOPTIONS"], kept = "-c regcrm.mode=" + mode, os.environ.get("PGOPTIONS", "")
    try:
        early = psycopg2.connect("", user="regcrm_writer")
    except psycopg2.OperationalError as error:
        tap.ok("permission" in str(error), "a connection that asks for mode %s is refused" % mode, error)
    else:
        refused_as("mode %s asked for by the connection" % mode, attempt(early, bases.make("messaging"), [task("other", by_bot=True)]), "CHAT-5")
        early.close()
    os.environ["PGOPTIONS"] = kept
    early = psycopg2.connect("", user="regcrm_writer")
    cur = early.cursor()
    try:
        cur.execute("set regcrm.mode = " + mode)
        early.commit()
    except psycopg2.Error:
        early.rollback()
    refused_as("mode %s set before the library is loaded" % mode, attempt(early, bases.make("messaging"), [task("other", by_bot=True)]), "CHAT-5")
    early.close()
loader = connect(role="regcrm_loader")
commits("mode record by a role that was granted it", attempt(loader, bases.make("messaging"), [sql("set local regcrm.mode = record"), task("other", by_bot=True)]))
loader.close()

# ---- PREPARE TRANSACTION (hazards G5) ----

deal = bases.make("deciding")
cur = writer.cursor()
done()(cur, deal)
refused = None
try:
    cur.execute("prepare transaction 'regcrm bypass'")
except psycopg2.Error as error:
    refused = Refused(error, "commit")
writer.rollback()
if refused is not None and refused.sqlstate == "23514":
    refused_as("PREPARE TRANSACTION", refused, "DEC-3")
else:
    refused_somehow("PREPARE TRANSACTION of facts", refused)
    both.autocommit = True
    if admin_does("select count(*) from pg_prepared_xacts")[0][0]:
        both.cursor().execute("rollback prepared 'regcrm bypass'")
comment(cur, deal)
try:
    cur.execute("prepare transaction 'regcrm bypass'")
    writer.commit()
    both.autocommit = True
    both.cursor().execute("commit prepared 'regcrm bypass'")
    tap.ok(True, "a legal transaction is prepared and committed")
except psycopg2.Error as error:
    writer.rollback()
    tap.ok(error.pgcode == "0A000", "a legal transaction is prepared, or it is said that this can't be", error)
both.autocommit = False
tap.same(admin_does("select count(*) from pg_prepared_xacts")[0][0], 0, "nothing stays prepared")

# ---- SET CONSTRAINTS ----

deal = bases.make("deciding")
refused_as("SET CONSTRAINTS of one name", attempt(writer, deal, [
    done(), sql("set constraints regcrm.regcrm_judge immediate"), task()]), "DEC-3", place="statement")
refused_as("written after SET CONSTRAINTS ALL IMMEDIATE", attempt(writer, deal, [
    sql("set constraints all immediate"), comment, done()]), "DEC-3", place="statement")
commits("judged twice in a transaction", attempt(writer, deal, [
    task(), sql("set constraints all immediate"), sql("set constraints all deferred"), done(), task()]))
refused_as("broken after it was judged once", attempt(writer, deal, [
    task(), sql("set constraints all immediate"), sql("set constraints all deferred"), done()]), "DEC-3")

# ---- a synced account is amoCRM's ----

admin_does("set regcrm.mode = record")
admin_does("insert into regcrm.account (id, known_from, known_until) values (78, '2020-01-01', now())")
admin_does("insert into regcrm.deal (account_id, id, stage, created_at) values (78, 1, 'new', now() - interval '1 day')")
for name, text, allowed in [
        ("a deal", "insert into regcrm.deal (account_id, id, stage) values (78, 2, 'new')", False),
        ("a move", "update regcrm.deal set stage = 'in_work' where account_id = 78", False),
        ("a field", "update regcrm.deal set reason = 'x' where account_id = 78", False),
        ("a task", "insert into regcrm.task (account_id, deal_id, due_at) values (78, 1, now() + interval '1 day')", False),
        ("a call", "insert into regcrm.event (account_id, deal_id, kind) values (78, 1, 'call_out')", False),
        ("a comment", "insert into regcrm.event (account_id, deal_id, kind) values (78, 1, 'comment')", False),
        ("a deletion", "delete from regcrm.deal where account_id = 78", False),
        ("a visit", "insert into regcrm.event (account_id, deal_id, kind) values (78, 1, 'visit')", True),
        ("a request", "insert into regcrm.event (account_id, deal_id, kind) values (78, 1, 'request')", True),
        ("a verdict", "insert into regcrm.event (account_id, deal_id, kind, field, value, body) values (78, 1, 'verdict', 'NEW-6', 'fail', 'x')", True)]:
    refused = attempt(writer, 0, [sql(text)])
    if allowed:
        commits("%s on a synced account" % name, refused)
    else:
        refused_somehow("%s on a synced account" % name, refused)

# ---- an old breach blocks nothing (it is not new) ----

deal = bases.make("deciding")
attempt(admin, deal, [done()])
commits("an unrelated change where a task was missing before", attempt(writer, deal, [comment, field("name", "'z'")]))
refused = attempt(writer, deal, [message_bot]) if (message_bot := event("message_out", by_bot=True)) else None
refused_as("a new breach beside the old one is named alone", refused, "DEC-5")
commits("the old breach is put right", attempt(writer, deal, [task()]))
refused_as("and then it may not come again", attempt(writer, deal, [done()]), "DEC-3")

tap.done()
