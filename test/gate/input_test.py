#!/usr/bin/python3
"""Bad input: a clear error, or a no-op that is documented.

Clear: of the right class, a message that names what is wrong, a detail or a
hint; and nothing is changed.  Prints TAP.
"""
import datetime as dt

from story import ACCOUNT, Bases, Tap, attempt, connect, event, facts, field, move, sql, start

tap = Tap()
admin, writer = start()
bases = Bases(admin)


def ask(text, *args):
    cur = admin.cursor()
    cur.execute(text, args)
    rows = cur.fetchall() if cur.description else None
    admin.commit()
    return rows


ask("insert into regcrm.account (id, known_from) values (2, '2020-01-01')")
deal = bases.make("deciding")
before = facts(admin, deal)


def bad(name, act, sqlstates, *words, on=None, place=None, acts=()):
    """The act is refused with one of the SQLSTATEs; words are in what is said."""
    target = deal if on is None else on
    untouched = facts(admin, target)
    refused = attempt(writer, target, list(acts) + [act])
    said = "%s %s %s" % (refused.message, refused.detail, refused.hint) if refused else ""
    tap.ok(refused is not None and refused.sqlstate in sqlstates.split() and all(str(w) in said for w in words) and
           (refused.detail or refused.hint or refused.sqlstate in ("P0002", "22004", "23503", "22007", "22P02", "22008")) and
           (place is None or place == refused.place),
           "%s: refused" % name, refused or "it was taken", "expected %s naming %s" % (sqlstates, words))
    tap.ok(facts(admin, target) == untouched, "%s: nothing is changed" % name)


def noop(name, *acts, on=None):
    target = deal if on is None else on
    untouched = facts(admin, target)
    refused = attempt(writer, target, list(acts))
    tap.ok(refused is None and facts(admin, target) == untouched, "%s: nothing happens" % name, refused)


NOBODY = 987654321

# ---- unknown deal ----

bad("check_move of an unknown deal", sql("select regcrm.check_move(%(a)s, %(p0)s, 'meeting')", NOBODY), "P0002", NOBODY)
bad("check_move of an unknown account", sql("select regcrm.check_move(%(p0)s, 1, 'meeting')", NOBODY), "P0002", NOBODY)
bad("allowed_moves of an unknown deal", sql("select regcrm.allowed_moves(%(a)s, %(p0)s)", NOBODY), "P0002", NOBODY)
bad("choose_scenario for an unknown deal", sql("select regcrm.choose_scenario(%(a)s, %(p0)s, 'meeting')", NOBODY), "P0002", NOBODY)
bad("a task of an unknown deal", sql("insert into regcrm.task (account_id, deal_id, due_at) values (%(a)s, %(p0)s, now() + interval '1 day')", NOBODY),
    "23503", NOBODY)
bad("an event of an unknown deal", sql("insert into regcrm.event (account_id, deal_id, kind) values (%(a)s, %(p0)s, 'comment')", NOBODY), "23503", NOBODY)
bad("a deal of an unknown account", sql("insert into regcrm.deal (account_id, id, stage) values (%(p0)s, 1, 'new')", NOBODY), "23503 P0002", NOBODY)
bad("a task of another account's deal", sql("insert into regcrm.task (account_id, deal_id, due_at) values (2, %(d)s, now() + interval '1 day')"), "23503", deal)
bad("an event of another account's deal", sql("insert into regcrm.event (account_id, deal_id, kind) values (2, %(d)s, 'comment')"), "23503", deal)
refused = attempt(writer, 4242, [sql("insert into regcrm.task (account_id, deal_id, due_at) values (%(a)s, %(d)s, now() + interval '1 day')"),
                                 sql("insert into regcrm.deal (account_id, id, stage) values (%(a)s, %(d)s, 'new')")])
tap.ok(refused is None, "a task may come before its deal within the transaction", refused)
tap.ok(attempt(writer, deal, [sql("insert into regcrm.task (account_id, due_at) values (%(a)s, now() + interval '1 day')"),
                              sql("insert into regcrm.event (account_id, kind) values (%(a)s, 'comment')")]) is None and facts(admin, deal) == before,
       "a task and an event of no deal concern nobody")

# ---- scenarios ----

bad("choose_scenario of none that is known", sql("select regcrm.choose_scenario(%(a)s, %(d)s, 'nonsense')"), "22023", "nonsense", "no_answer", "meeting")
bad("choose_scenario of null", sql("select regcrm.choose_scenario(%(a)s, %(d)s, null)"), "22023 22004")
bad("choose_scenario of an empty text", sql("select regcrm.choose_scenario(%(a)s, %(d)s, '  ')"), "22023 22004")
bad("choose_scenario with an unknown field", sql("select regcrm.choose_scenario(%(a)s, %(d)s, 'meeting', '{\"meeting\": \"2037-01-01\"}')"), "22023", "meeting")
bad("choose_scenario with fields that are a list", sql("select regcrm.choose_scenario(%(a)s, %(d)s, 'meeting', '[1]')"), "22023", "array")
bad("choose_scenario with a moment that is none", sql("select regcrm.choose_scenario(%(a)s, %(d)s, 'meeting', '{\"meeting_at\": \"tomorrowish\"}')"),
    "22007", "tomorrowish")
fresh = bases.make("new")
bad("a scenario event of none that is known", event("scenario", scenario="nonsense"), "22023", "nonsense", on=fresh)
refused = attempt(writer, fresh, [event("scenario"), move("in_work")])
tap.ok(refused is None, "a scenario event that does not say which is a scenario all the same (docs/gate.md)", refused)

# ---- stages ----

bad("an unknown stage", field("stage", "'sold'"), "22P02", "sold", "meeting")
bad("stage null", field("stage", "null"), "23502 23514 22004", "stage")
bad("a deal begun without a stage", sql("insert into regcrm.deal (account_id, id) values (%(a)s, 4711)"), "23502 23514 22004", "new")
noop("a move to the stage where the deal is", move("deciding"))
noop("the same by another name", field("stage", "'Принимает решение'"))
noop("check_move to the stage where the deal is", sql("select regcrm.check_move(%(a)s, %(d)s, 'deciding')"))
tap.same(ask("select count(*) from regcrm.check_move(%s, %s, 'deciding')", ACCOUNT, deal), [(0,)], "check_move says that it breaks nothing")
bad("check_move to null", sql("select regcrm.check_move(%(a)s, %(d)s, null)"), "22004 22023 23502")
bad("check_move of no deal", sql("select regcrm.check_move(%(a)s, null, 'meeting')"), "22004 22023 P0002")
for when in ("'infinity'", "'-infinity'", "'1900-01-01'"):
    bad("check_move at %s" % when, sql("select regcrm.check_move(%%(a)s, %%(d)s, 'won', %s)" % when), "22008 22023 22004")
tap.same(ask("select rule from regcrm.check_move(%s, %s, 'deferred', now() + interval '60 days')", ACCOUNT,
             bases.make("messaging", return_on=dt.timedelta(days=20))), [("DEF-2P",), ("DEF-4",)],
         "check_move looks from the moment that it is asked for: a date gone by then is not ahead")
bad("allowed_moves of no deal", sql("select regcrm.allowed_moves(%(a)s, null)"), "22004 22023 P0002")

# ---- instants ----

bad("a task due before its creation", sql("insert into regcrm.task (account_id, deal_id, due_at) values (%(a)s, %(d)s, now() - interval '1 second')"), "23514", "due")
bad("a task's due moment set before its creation", sql("update regcrm.task set due_at = created_at - interval '1 day' where account_id = %(a)s and deal_id = %(d)s"),
    "23514", "due")
bad("a task done before its creation", sql("update regcrm.task set completed_at = created_at - interval '1 day' where account_id = %(a)s and deal_id = %(d)s"), "23514")
bad("a task due at no time", sql("insert into regcrm.task (account_id, deal_id) values (%(a)s, %(d)s)"), "23502", "due_at", place="statement")
for when in ("now() + interval '1 second'", "now() + interval '100 years'", "'infinity'"):
    bad("an event at %s" % when, sql("insert into regcrm.event (account_id, deal_id, at, kind) values (%%(a)s, %%(d)s, %s, 'call_out')" % when), "22008 23514")
bad("an event at -infinity", sql("insert into regcrm.event (account_id, deal_id, at, kind) values (%(a)s, %(d)s, '-infinity', 'call_out')"), "22008 23514")
bad("a task created in a year", sql("insert into regcrm.task (account_id, deal_id, created_at, due_at) values"
                                    " (%(a)s, %(d)s, now() + interval '1 year', now() + interval '2 years')"), "22008", "created_at")
bad("a deal created tomorrow", sql("insert into regcrm.deal (account_id, id, stage, created_at) values (%(a)s, 4712, 'new', now() + interval '1 day')"),
    "22008", "created_at")
tap.ok(attempt(writer, deal, [sql("insert into regcrm.event (account_id, deal_id, at, kind) values (%(a)s, %(d)s, now() - interval '10 years', 'call_in')")]) is None,
       "an event from before the deal's creation counts as at it")
tap.ok(attempt(writer, deal, [sql("insert into regcrm.event (account_id, deal_id, at, kind) values (%(a)s, %(d)s, clock_timestamp(), 'comment')")]) is None,
       "an event at the clock's own instant is not ahead of it")

# ---- kinds ----

bad("an unknown kind of event", event("telegram"), "23514 22023")
bad("a verdict on an unknown rule", event("verdict", field="NEW-99", value="fail", body="x"), "22023", "NEW-99", "NEW-6")
bad("a deal's key twice", sql("insert into regcrm.deal (account_id, id, stage) values (%(a)s, %(d)s, 'new')"), "23505", place="statement")

# names and texts that try to be more (hazards G12)
for text in ("'); drop table regcrm.deal; --", "%s %n %1$s", "\\", "ы" * 300, 'a"b', "\u2028"):
    odd = bases.make("deciding")
    refused = attempt(writer, odd, [sql("update regcrm.deal set name = %(p0)s, pause_reason = %(p0)s where account_id = %(a)s and id = %(d)s", text),
                                    event("comment", body=text), sql("update regcrm.task set body = %(p0)s where account_id = %(a)s and deal_id = %(d)s", text)])
    tap.ok(refused is None, "texts are only texts: %s" % ascii(text[:20]), refused)
    refused = attempt(writer, odd, [sql("update regcrm.task set completed_at = now(), result = %(p0)s where account_id = %(a)s and deal_id = %(d)s", text)])
    tap.ok(refused is not None and refused.rules == ["DEC-3"] and text not in refused.message + refused.detail + refused.hint,
           "and no part of what is said", refused)
    bad("an odd scenario", sql("select regcrm.choose_scenario(%(a)s, %(d)s, %(p0)s)", text), "22023", on=odd)

# the settings that a write depends on
alone = connect(role="regcrm_writer")
cur = alone.cursor()
cur.execute("set regcrm.account_id = ''")
alone.commit()
refused = attempt(alone, 1, [sql("insert into regcrm.deal (id, stage) values (%(d)s, 'new')")])
tap.ok(refused is not None and "several accounts" in refused.message and refused.hint, "no account named where there are several", refused)
for value in ("12x", "99999999999999999999"):
    refused = attempt(alone, 1, [sql("set local regcrm.account_id = %(p0)s", value), sql("insert into regcrm.deal (id, stage) values (%(d)s, 'new')")])
    tap.ok(refused is not None and refused.sqlstate == "22023" and (refused.detail or refused.hint), "regcrm.account_id = %s" % value, refused)

tap.done()
