#!/usr/bin/python3
"""A regulation of the user's own: the gate knows no company.  One rule of each
form that rejects, with a code, a title and a field that nobody foresaw; closed,
switched off and changed while it is in force.  Prints TAP.
"""
from story import Tap, attempt, sql, start
import story

tap = Tap()
admin, writer = start()
story.ACCOUNT = 80      # acts and facts are of this account from here on
TITLE = "«100 %s» %n %1$s \"O'Neil\" \\"


def ask(text, *args):
    cur = admin.cursor()
    cur.execute(text, args)
    rows = cur.fetchall() if cur.description else None
    admin.commit()
    return rows


ask("insert into regcrm.regulation (code, title) values ('own', 'Своё')")
ask("insert into regcrm.transition (regulation, from_stage, to_stage) values ('own', null, 'new'), ('own', 'new', 'in_work'), ('own', 'in_work', 'won')")
ask("insert into regcrm.account (id, regulation, known_from) values (80, 'own', '2020-01-01')")
ask("insert into regcrm.field_map (account_id, field_id, field) values (80, 1, 'цвет')")
ask("""insert into regcrm.rule (regulation, code, stage, form, event, nth, expect, within, action, title) values
    ('own', 'ПР-ХОД', null, 'flow', null, null, '{}', null, 'reject', %s),
    ('own', 'ПР-1', 'in_work', 'enter', null, null, '{field:цвет}', '1 day', 'reject', %s),
    ('own', 'ПР-2', 'new', 'leave', null, null, '{comment*2}', null, 'reject', %s),
    ('own', 'ПР-3', 'in_work', 'always', null, null, '{task:особая}', '5 days', 'reject', %s),
    ('own', 'ПР-4', 'in_work', 'never', 'comment', 3, '{}', null, 'reject', %s),
    ('own', 'ПР-5', 'in_work', 'within', 'call_in', null, '{comment}', '1 hour', 'reject', %s),
    ('own', 'ПР-6', null, 'attest', null, null, '{}', null, 'reject', %s)""", *[TITLE] * 7)
own = [r[0] for r in ask("select code from regcrm.rule where regulation = 'own'")]


def refused_as(name, refused, *codes, place=None):
    told = refused.detail if refused else ""
    named = sorted(c for c in own if any(line.startswith(c) for line in told.split("\n")))
    return tap.ok(refused is not None and refused.sqlstate == "23514" and named == sorted(codes) and refused.rule in codes and
                  told.count(TITLE) == len(codes) and refused.hint and (place is None or refused.place == place),
                  "%s: refused as %s" % (name, ", ".join(codes)), refused)


def commits(name, refused):
    tap.ok(refused is None, name + ": commits", refused)


number = 0


def begin():
    global number
    number += 1
    begun = attempt(writer, number, [sql("insert into regcrm.deal (account_id, id, stage) values (%(a)s, %(d)s, 'new')")])
    assert begun is None, begun
    return number


comment = sql("insert into regcrm.event (account_id, deal_id, kind, body) values (80, %(d)s, 'comment', 'x')")
special = sql("insert into regcrm.task (account_id, deal_id, kind, due_at) values (80, %(d)s, 'особая', now() + interval '1 day')")
colour = sql("update regcrm.deal set custom = custom || '{\"цвет\": \"синий\"}' where account_id = 80 and id = %(d)s")
no_colour = sql("update regcrm.deal set custom = custom - 'цвет' where account_id = 80 and id = %(d)s")
to_work = sql("update regcrm.deal set stage = 'in_work' where account_id = 80 and id = %(d)s")
to_won = sql("update regcrm.deal set stage = 'won' where account_id = 80 and id = %(d)s")
call = sql("insert into regcrm.event (account_id, deal_id, at, kind) values (80, %(d)s, now() - interval '2 hours', 'call_in')")


def in_work():
    """A deal that has been in work since yesterday."""
    deal = begin()
    ask("""with d as (update regcrm.deal set created_at = now() - interval '2 days', custom = '{"цвет": "синий"}' where account_id = 80 and id = %s returning id)
           insert into regcrm.event (account_id, deal_id, at, kind, from_stage, to_stage)
           select 80, id, now() - interval '1 day', k, case k when 'stage' then 'new'::regcrm.stage end, case k when 'stage' then 'in_work'::regcrm.stage end
           from d, unnest(array['comment', 'comment', 'stage']) k""", deal)
    ask("insert into regcrm.task (account_id, deal_id, kind, created_at, due_at) values (80, %s, 'особая', now() - interval '1 day', now() + interval '1 day')", deal)
    assert ask("select stage::text from regcrm.deal where account_id = 80 and id = %s", deal) == [("in_work",)]
    return deal


deal = begin()
tap.same(ask("select count(*) from regcrm.task where account_id = 80"), [(0,)], "no effect of another regulation acts")
refused_as("a move that is none of its", attempt(writer, deal, [to_won]), "ПР-ХОД", place="statement")
refused_as("all at once", attempt(writer, deal, [to_work]), "ПР-1", "ПР-2", "ПР-3")
refused_as("enter", attempt(writer, deal, [comment, comment, special, to_work]), "ПР-1")
refused_as("leave, one comment of two", attempt(writer, deal, [comment, colour, special, to_work]), "ПР-2")
refused_as("always", attempt(writer, deal, [comment, comment, colour, to_work]), "ПР-3")
tap.same(sorted(r[0] for r in ask("select rule from regcrm.check_move(80, %s, 'in_work')", deal)), ["ПР-1", "ПР-2", "ПР-3"], "check_move names them")
tap.same(ask("select to_stage::text, array_length(rules, 1) from regcrm.allowed_moves(80, %s)", deal), [("in_work", 3)], "allowed_moves knows its graph")
commits("all that is asked for", attempt(writer, deal, [to_work, special, colour, comment, comment]))
commits("a field that enter asked for may go later", attempt(writer, deal, [no_colour]))

deal = in_work()
commits("never, the second", attempt(writer, deal, [comment, comment]))
refused_as("never, the third", attempt(writer, deal, [comment]), "ПР-4")
deal = in_work()
refused_as("within: what was due an hour ago", attempt(writer, deal, [call]), "ПР-5")
commits("within: what is kept", attempt(writer, deal, [call, sql(
    "insert into regcrm.event (account_id, deal_id, at, kind) values (80, %(d)s, now() - interval '90 minutes', 'comment')")]))
deal = in_work()
commits("within: what is not yet due", attempt(writer, deal, [sql(
    "insert into regcrm.event (account_id, deal_id, at, kind) values (80, %(d)s, now() - interval '10 minutes', 'call_in')")]))
deal = begin()
verdict = "insert into regcrm.event (account_id, deal_id, kind, field, value, body) values (80, %%(d)s, 'verdict', 'ПР-6', '%s', 'x')"
refused = attempt(writer, deal, [sql(verdict % "fail")])
tap.ok(refused is None or refused.rule == "ПР-6", "attest: a fail", refused)
commits("attest: a pass", attempt(writer, deal, [sql(verdict % "pass")]))
refused = attempt(writer, deal, [sql("insert into regcrm.event (account_id, deal_id, kind, field, value) values (80, %(d)s, 'verdict', 'NEW-6', 'fail')")])
tap.ok(refused is not None and refused.sqlstate == "22023" and "ПР-6" in refused.hint + refused.detail, "a verdict on another regulation's rule", refused)

# ---- rules that change ----

deal = in_work()
finish = sql("update regcrm.task set completed_at = now() where account_id = 80 and deal_id = %(d)s")
refused_as("while it is in force", attempt(writer, deal, [finish]), "ПР-3")
ask("update regcrm.rule set valid = tstzrange(null, now() - interval '1 second') where regulation = 'own' and code = 'ПР-3'")
commits("once it is closed", attempt(writer, deal, [finish]))
deal = in_work()
ask("insert into regcrm.rule (regulation, code, stage, form, expect, action, title, valid) values"
    " ('own', 'ПР-3', 'in_work', 'always', '{task}', 'reject', %s, tstzrange(now(), null))", TITLE)
refused_as("once another row begins", attempt(writer, deal, [finish]), "ПР-3")
ask("update regcrm.rule set action = 'record' where regulation = 'own' and code = 'ПР-3' and upper(valid) is null")
commits("once it only records", attempt(writer, deal, [finish]))
ask("update regcrm.rule set action = 'reject' where regulation = 'own' and code = 'ПР-3' and upper(valid) is null")
commits("a gap on record does not block what is unrelated", attempt(writer, deal, [colour]))
ask("update regcrm.transition set valid = tstzrange(null, now()) where regulation = 'own' and to_stage = 'won'")
refused_as("a move whose row was closed", attempt(writer, deal, [to_won]), "ПР-ХОД", place="statement")
ask("update regcrm.account set regulation = 'idrive' where id = 80")
refused = attempt(writer, deal, [to_won])
tap.ok(refused is not None and refused.rule == "FLOW", "the account under another regulation: that one's FLOW", refused)
ask("update regcrm.account set regulation = 'own' where id = 80")
ask("delete from regcrm.rule where regulation = 'own' and form = 'flow'")
commits("a regulation without a rule for the flow lets moves be", attempt(writer, deal, [to_won]))

tap.done()
