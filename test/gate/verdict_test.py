#!/usr/bin/python3
"""Verdicts, excuses, and findings that nobody edits.

A verdict is for the rules that no data shows, and refused for all others.  A
violation is excused by waive(), with who, when and why, and undone by
unwaive(); nothing else of it is changed by hand, by whomever.  Prints TAP.
"""
from story import ACCOUNT, Bases, Tap, attempt, connect, done, make_writer, sql, start, task

tap = Tap()
admin, writer = start()
bases = Bases(admin)


def ask(text, *args):
    cur = admin.cursor()
    cur.execute(text, args)
    rows = cur.fetchall() if cur.description else None
    admin.commit()
    return rows


attest = [r[0] for r in ask("select code from regcrm.rule where regulation = 'idrive' and form = 'attest' order by code")]
others = [r[0] for r in ask("select code from regcrm.rule where regulation = 'idrive' and form <> 'attest' order by code")]
tap.same(attest, sorted(["NEW-6", "NEW-10", "WRK-8", "MISS-2", "CHAT-4", "DEC-2", "MEET-6", "ONC-3", "DEF-1", "DEF-6", "LOST-1", "NQ-1", "WON-3",
                         "WON-8"]), "the rules that no data shows")


def verdict(code, value, at="now()", body="прослушан звонок"):
    return sql("insert into regcrm.event (account_id, deal_id, at, kind, field, value, body) values (%%(a)s, %%(d)s, %s, 'verdict', %%(p0)s, %%(p1)s, %%(p2)s)" % at,
               code, value, body)


def found(deal, code):
    return ask("select resolved_at is not null, resolution, withdrawn_at is not null from regcrm.violation"
               " where account_id = %s and deal_id = %s and rule = %s order by arose_at", ACCOUNT, deal, code)


for code in attest:
    deal = bases.make("deciding")
    refused = attempt(writer, deal, [verdict(code, "fail", "now() - interval '1 hour'")])
    tap.ok(refused is None and found(deal, code) == [(False, None, False)], "%s: a fail is a breach" % code, refused, found(deal, code))
    refused = attempt(writer, deal, [verdict(code, "pass")])
    tap.ok(refused is None and found(deal, code) == [(True, "met", False)], "%s: a later pass cures it" % code, refused, found(deal, code))
deal = bases.make("deciding")
for code in others:
    for value in ("fail", "pass"):
        refused = attempt(writer, deal, [verdict(code, value)])
        if not (refused is not None and refused.sqlstate == "22023" and code in refused.message + refused.detail and
                all(a in refused.hint + refused.detail for a in attest)):
            tap.ok(False, "%s is not for a verdict: %s refused, with the list of those that are" % (code, value), refused)
            break
    else:
        tap.ok(True, "%s is not for a verdict: refused, with the list of those that are" % code)
for value in ("maybe", None, ""):
    refused = attempt(writer, deal, [verdict("NEW-6", value)])
    tap.ok(refused is not None and refused.sqlstate[:2] in ("23", "22"), "a verdict of %r is none" % value, refused)
refused = attempt(writer, deal, [verdict(None, "fail")])
tap.ok(refused is not None and refused.sqlstate[:2] in ("23", "22"), "a verdict on no rule is none", refused)

# a rule of one's own that is for a verdict, and rejects: the verdict itself is what the gate would refuse
ask("update regcrm.rule set action = 'reject' where regulation = 'idrive' and code = 'NEW-10'")
refused = attempt(writer, deal, [verdict("NEW-10", "fail")])
tap.ok(refused is None or refused.rules == ["NEW-10"], "a rule for verdicts that rejects", refused)
ask("update regcrm.rule set action = 'record' where regulation = 'idrive' and code = 'NEW-10'")

# ---- waive, unwaive ----

make_writer(admin.cursor(), "regcrm_head")
admin.commit()
ask("grant execute on function regcrm.waive(bigint, bigint, text) to regcrm_head")
ask("grant execute on function regcrm.unwaive(bigint, bigint) to regcrm_head")
ask("grant select, insert, update, delete on regcrm.violation, regcrm.deadline to regcrm_head")
head = connect(role="regcrm_head")
deal = bases.make("deciding")
attempt(writer, deal, [verdict("NEW-6", "fail")])
number = ask("select id from regcrm.violation where account_id = %s and deal_id = %s", ACCOUNT, deal)[0][0]


def waive(reason, who=number):
    return sql("select regcrm.waive(%(a)s, %(p0)s, %(p1)s)", who, reason)


def unwaive(who=number):
    return sql("select regcrm.unwaive(%(a)s, %(p0)s)", who)


def excused():
    return ask("select waived_by, waive_reason, waived_at between now() - interval '1 minute' and clock_timestamp() from regcrm.violation"
               " where account_id = %s and id = %s", ACCOUNT, number)[0]


def is_open():
    return ask("select count(*) from regcrm.open_violations where deal_id = %s and rule = 'NEW-6'", deal)[0][0]


tap.same(is_open(), 1, "the violation is open")
for reason in (None, "", "   "):
    refused = attempt(head, 0, [waive(reason)])
    tap.ok(refused is not None and refused.sqlstate[:2] in ("22", "23") and refused.hint and excused() == (None, None, None),
           "waive without a reason (%r): refused" % reason, refused)
refused = attempt(head, 0, [waive("x", -5)])
tap.ok(refused is not None and refused.sqlstate == "P0002", "waive of what is not there: refused", refused)
refused = attempt(writer, 0, [waive("x")])
tap.ok(refused is not None and refused.sqlstate == "42501", "waive by one who was not granted it: refused", refused)
refused = attempt(head, 0, [unwaive()])
tap.ok(refused is not None and refused.sqlstate == "55000", "unwaive of what is not waived: refused", refused)
refused = attempt(head, 0, [waive("клиент просил не звонить")])
tap.ok(refused is None and excused() == ("regcrm_head", "клиент просил не звонить", True), "waive keeps who, when and why", refused, excused())
tap.same(is_open(), 0, "and the violation is not open")
refused = attempt(head, 0, [waive("ещё")])
tap.ok(refused is not None and refused.sqlstate == "55000" and excused()[1] == "клиент просил не звонить", "waived twice: refused", refused)
ask("select regcrm.rejudge(%s)", ACCOUNT)
tap.same(excused()[:2], ("regcrm_head", "клиент просил не звонить"), "judging again keeps the excuse")
refused = attempt(writer, 0, [unwaive()])
tap.ok(refused is not None and refused.sqlstate == "42501", "unwaive by one who was not granted it: refused", refused)
refused = attempt(head, 0, [unwaive(-5)])
tap.ok(refused is not None and refused.sqlstate == "P0002", "unwaive of what is not there: refused", refused)
refused = attempt(head, 0, [unwaive()])
tap.ok(refused is None and excused() == (None, None, None) and is_open() == 1, "unwaive undoes it", refused, excused())
refused = attempt(head, 0, [sql("set local role regcrm_writer"), waive("x")])
tap.ok(refused is not None and refused.sqlstate == "42501", "SET ROLE to another does not lend the right", refused)

# ---- by hand ----

columns = [r[0] for r in ask("select attname from pg_attribute where attrelid = 'regcrm.violation'::regclass and attnum > 0 and not attisdropped order by attnum")]
values = {"account_id": "account_id + 1", "id": "id + 1000000", "deal_id": "deal_id + 1", "rule": "'FLOW'", "task_id": "1", "stage": "'new'",
          "manager_id": "2", "severity": "'info'", "resolution": "'met'", "evidence": "'{}'", "waived_by": "'me'", "waive_reason": "'x'"}
stood = ask("select * from regcrm.violation order by id")
deadlines = ask("select * from regcrm.deadline order by 1, 2, 3, 5")
for mode in ("enforce", "record"):
    for connection, who in ((head, "one granted UPDATE"), (admin, "a superuser")):
        acts = [] if who != "a superuser" else [sql("set local regcrm.mode = " + mode)]
        if who != "a superuser" and mode == "record":
            continue
        wrong = []
        for column in columns:
            value = values.get(column, "now() - interval '1 hour'")
            statement = "update regcrm.violation set %s = %s where account_id = %%(a)s and id = %s" % (column, value, number)
            if column in ("waived_at", "waived_by", "waive_reason"):
                # the three go together
                statement = "update regcrm.violation set waived_at = now(), waived_by = 'me', waive_reason = 'x' where account_id = %%(a)s and id = %s" % number
            refused = attempt(connection, 0, acts + [sql(statement)])
            if refused is None or not (refused.sqlstate == "55000" and refused.hint or refused.sqlstate == "42501"):
                wrong.append((column, refused))
        tap.ok(not wrong, "%s, mode %s: no column of a violation is edited by hand" % (who, mode), *wrong)
        for what in ("delete from regcrm.violation", "delete from regcrm.deadline", "update regcrm.deadline set state = 'met', met_at = now()",
                     "insert into regcrm.violation (account_id, deal_id, rule, severity, arose_at, breached_at) values (1, 1, 'FLOW', 'info', now(), now())",
                     "insert into regcrm.deadline (account_id, deal_id, rule, arose_at, due_at) values (1, 1, 'NEW-1', now(), now() + interval '1 h')",
                     "truncate regcrm.violation", "truncate regcrm.deadline"):
            refused = attempt(connection, 0, acts + [sql(what)])
            tap.ok(refused is not None and refused.sqlstate in ("55000", "42501"), "%s, mode %s: %s is refused" % (who, mode, what[:40]), refused)
tap.ok(ask("select * from regcrm.violation order by id") == stood, "violations are as they were")
tap.ok(ask("select * from regcrm.deadline order by 1, 2, 3, 5") == deadlines, "deadlines are as they were")

# an excuse does not let the breach happen again: it stays one breach, and the gate goes by whether it is new
deal = bases.make("deciding")
attempt(admin, deal, [done()])
ask("select regcrm.flag_expired(now() + interval '1 hour')")
again = ask("select id from regcrm.violation where account_id = %s and deal_id = %s and rule = 'DEC-3' and withdrawn_at is null", ACCOUNT, deal)[0][0]
tap.ok(attempt(head, 0, [waive("отпуск", again)]) is None, "a gap is excused")
tap.ok(attempt(writer, deal, [task()]) is None, "then put right")
refused = attempt(writer, deal, [done()])
tap.ok(refused is not None and refused.rules == ["DEC-3"], "and a new gap is refused", refused)

tap.done()
