#!/usr/bin/python3
"""Every rule with action reject, by hand from the regulation: a bare write is
refused with the rule's code, the completed write commits.

Each case breaks its rule alone, so the error names just that one.  Prints TAP.
Connects by the usual PG* variables to a database with regcrm.
"""
from story import (Bases, Tap, attempt, breaches, comment, described, done, event, facts, field, meeting_ahead,
                   message_in, message_out, missed, move, paid, reason, return_ahead, return_past, scenario, signed,
                   skip, start, talk, task, visit)

bot_message = event("message_out", by_bot=True, channel="whatsapp")
control = task("meeting_control")
contract_control = task("contract_control")
no_skip = field("skip_task_check", "false")

# code; where the deal stands (Bases.make); the bare write; the completed write.
# A completed write that is a set is the bare one and these, in any order.
CASES = [
    # the graph: a deal does not go from the first stage to the contract
    ("FLOW", ("new",), [move("won")], [scenario("in_work"), move("in_work")]),

    # Новые заявки
    ("NEW-2", ("new",), [move("in_work")], {scenario("in_work")}),
    ("NEW-4", ("new",), [done()], [done(), task()]),
    ("NEW-4", ("new",), [event("comment", body="x"), done("process_request")], {task()}),
    ("NEW-5", ("new",), [scenario("deferred"), return_ahead, task(), move("deferred")], {comment}),
    ("NEW-8", ("new", dict(lead_date=False)), [scenario("in_work"), move("in_work")], {field("lead_date", "now()::date")}),

    # Взято в работу
    ("WRK-1", ("new", dict(contact=False)), [scenario("in_work"), move("in_work")], {talk}),
    ("WRK-1", ("new", dict(contact=False)), [scenario("in_work"), missed, move("in_work")], {message_in}),
    ("WRK-2L", ("in_work",), [comment, task(), move("deciding")], {scenario("deciding")}),
    ("WRK-4", ("in_work",), [done()], [done(), task()]),
    ("WRK-5", ("in_work",), [talk, scenario("deferred"), return_ahead, task(), move("deferred")], {comment}),

    # Не было 1 касания
    ("MISS-3", ("new", dict(contact=False)), [scenario("no_answer"), move("no_answer")], {missed}),
    ("MISS-3", ("new",), [scenario("no_answer"), talk, move("no_answer")], [scenario("no_answer"), missed, move("no_answer")]),
    ("MISS-15", ("no_answer",), [done()], [done(), task("callback")]),

    # Ведётся переписка
    ("CHAT-1", ("messaging",), [event("robot")], [message_out]),
    ("CHAT-2", ("messaging",), [bot_message], [message_out]),
    ("CHAT-5", ("messaging",), [task("other", by_bot=True)], [task("other")]),
    ("CHAT-6", ("deciding", dict(chat=True)), [bot_message], [message_out]),
    ("CHAT-6", ("deciding", dict(chat=True)), [event("robot")], [comment]),
    ("CHAT-6", ("meeting", dict(chat=True)), [task("other", by_bot=True)], [task("other")]),
    ("CHAT-8", ("new", dict(contact=False)), [scenario("messaging"), comment, move("messaging")], {message_in}),
    ("CHAT-10", ("messaging",), [scenario("deciding")], [comment, task(), move("deciding")]),
    ("CHAT-11", ("deciding", dict(chat=True)), [scenario("meeting")], [meeting_ahead, control, move("meeting")]),

    # Принимает решение
    ("DEC-1", ("new", dict(contact=False)), [scenario("deciding"), comment, task(), move("deciding")], {talk}),
    ("DEC-3", ("deciding",), [done()], [done(), task()]),
    ("DEC-3", ("new",), [scenario("deciding"), comment, done("process_request"), move("deciding")], {task()}),
    ("DEC-5", ("deciding",), [bot_message], [message_out]),
    ("DEC-6", ("new",), [scenario("deciding"), task(), move("deciding")], {comment}),
    ("DEC-6", ("new",), [scenario("deciding"), task(), move("deciding")], {field("pause_reason", "'отпуск'")}),

    # Встреча назначена
    ("MEET-1", ("new",), [scenario("meeting"), control, move("meeting")], {meeting_ahead}),
    ("MEET-1", ("meeting",), [field("meeting_at", "null")], [field("meeting_at", "null"), meeting_ahead]),
    ("MEET-2", ("new",), [scenario("meeting"), meeting_ahead, move("meeting")], {control}),
    ("MEET-2", ("new",), [scenario("meeting"), meeting_ahead, task("callback"), move("meeting")], {control}),
    ("MEET-7", ("new", dict(contact=False)), [scenario("meeting"), meeting_ahead, control, move("meeting")], {visit}),

    # Онлайн договор
    ("ONC-2", ("new",), [scenario("contract"), move("contract")], {contract_control}),
    ("ONC-2", ("contract",), [done()], [done(), contract_control]),
    ("ONC-2", ("contract",), [done(), signed], {paid}),
    ("ONC-7", ("new", dict(contact=False)), [scenario("contract"), contract_control, move("contract")], {message_in}),

    # Отложенный спрос
    ("DEF-2", ("deferred",), [field("return_on", "null")], [field("return_on", "null"), return_ahead]),
    ("DEF-2P", ("new",), [scenario("deferred"), comment, task(), return_past, move("deferred")],
     [scenario("deferred"), comment, task(), return_past, move("deferred"), return_ahead]),
    ("DEF-3", ("deferred",), [task("other", by_bot=True)], [task("other")]),
    ("DEF-4", ("deferred",), [done()], [done(), task()]),
    ("DEF-4", ("new",), [scenario("deferred"), comment, return_ahead, done("process_request"), move("deferred")], {task()}),
    ("DEF-7", ("new", dict(contact=False)), [scenario("deferred"), comment, return_ahead, task(), move("deferred")], {talk}),

    # Не продали
    ("LOST-2", ("new",), [scenario("lost"), done(), move("lost")], {reason}),
    ("LOST-3", ("lost",), [talk], {message_in}),
    ("LOST-3", ("lost",), [message_out], {visit}),
    ("LOST-4", ("lost",), [task()], [task(), done()]),
    ("LOST-4", ("deciding",), [reason, move("lost")], {done()}),
    ("LOST-5", ("lost",), [task(), move("in_work")], {visit}),
    ("LOST-5", ("lost",), [task(), move("new")], {event("request")}),
    ("LOST-6", ("new", dict(contact=False)), [scenario("lost"), reason, done(), move("lost")], {talk}),

    # Не целевой
    ("NQ-2", ("new",), [scenario("unqualified"), done(), move("unqualified")], {reason}),
    ("NQ-3", ("unqualified",), [missed], {message_in}),
    ("NQ-4", ("unqualified",), [task()], [task(), done()]),
    ("NQ-5", ("unqualified",), [task(), move("in_work")], {message_in}),

    # Договор
    ("WON-1", ("meeting",), [paid, done(), skip, move("won")], {signed}),
    ("WON-2", ("meeting",), [signed, done(), skip, move("won")], {paid}),
    ("WON-4", ("deciding",), [signed, paid, done(), skip, move("won")],
     [signed, paid, meeting_ahead, move("meeting"), done(), skip, move("won")]),
    ("WON-5", ("won",), [task()], [task(), done()]),
    ("WON-6", ("won",), [no_skip], [no_skip, skip]),
    ("WON-7", ("won",), [talk], {message_in}),
]


# the column of the error, where the rule is about one
COLUMNS = {"FLOW": "stage", "NEW-8": "lead_date", "MEET-1": "meeting_at", "DEF-2": "return_on", "LOST-2": "reason", "NQ-2": "reason",
           "WON-1": "signed_at", "WON-2": "paid_at", "WON-6": "skip_task_check"}

# what the hint must speak of: the act that makes it legal, a word of it at least
ADVICE = {"FLOW": "in_work", "NEW-2": "scenario", "NEW-4": "task", "NEW-5": "comment", "NEW-8": "lead_date", "WRK-1": "call", "WRK-2L": "scenario",
          "WRK-4": "task", "WRK-5": "comment", "MISS-3": "call", "MISS-15": "task", "CHAT-8": "message", "DEC-1": "call", "DEC-3": "task",
          "DEC-6": "pause_reason", "MEET-1": "meeting_at", "MEET-2": "meeting_control", "MEET-7": "call", "ONC-2": "contract_control", "ONC-7": "call",
          "DEF-2": "return_on", "DEF-2P": "return_on", "DEF-4": "task", "DEF-7": "call", "LOST-2": "reason", "LOST-4": "task", "LOST-5": "client",
          "LOST-6": "call", "NQ-2": "reason", "NQ-4": "task", "NQ-5": "client", "WON-1": "signed_at", "WON-2": "paid_at", "WON-4": "meeting",
          "WON-5": "task", "WON-6": "skip_task_check"}


def main():
    tap = Tap()
    admin, writer = start()
    bases = Bases(admin)
    titles = {}
    cur = admin.cursor()
    cur.execute("select code, title from regcrm.rule where regulation = 'idrive' and action = 'reject' and enabled and valid @> now()")
    titles.update(cur.fetchall())
    admin.commit()

    for code, base, bare, good in CASES:
        make = dict(base[1]) if len(base) > 1 else {}
        name = "%s in %s" % (code, base[0])
        orders = [bare + list(good), list(good) + bare] if isinstance(good, set) else [good]

        deal = bases.make(base[0], **make)
        tap.same(breaches(admin, deal), [], name + ": the history before breaks nothing")
        before = facts(admin, deal)
        for immediate in (False, True):
            how = "at SET CONSTRAINTS" if immediate else "at COMMIT"
            refused = attempt(writer, deal, bare, immediate=immediate)
            if not tap.ok(refused is not None, "%s: the bare write is refused %s" % (name, how), described(bare)):
                continue
            where = "statement" if code == "FLOW" else "commit"
            wrong = [what for what, right in [
                ("sqlstate", refused.sqlstate == "23514"),
                ("constraint_name", refused.rule == code),
                ("rules in DETAIL", refused.rules == [code]),
                ("DETAIL is one line a rule", len(refused.detail.strip().split("\n")) == 1),
                ("title in DETAIL", titles.get(code, "?") in refused.detail),
                ("something is said to be missing", len(refused.detail) > len(code) + len(titles.get(code, "")) + 5),
                ("a hint", refused.hint != ""),
                ("what the hint advises", ADVICE.get(code, "") in refused.hint),
                ("column", refused.column == COLUMNS.get(code)),
                ("the deal in the message", "deal %d " % deal in refused.message),
                ("schema", refused.schema == "regcrm"),
                ("table", refused.table in ("deal", "task", "event")),
                ("refused at " + where, refused.place == where),
            ] if not right]
            tap.ok(not wrong, "%s: the refusal %s says all" % (name, how), "wrong: " + ", ".join(wrong), refused)
            tap.ok(facts(admin, deal) == before, "%s: nothing stays of what is refused %s" % (name, how))

        for number, acts in enumerate(orders):
            if number > 0:
                deal = bases.make(base[0], **make)
            refused = attempt(writer, deal, acts)
            tap.ok(refused is None, "%s: the completed write commits%s" % (name, " in another order" if number else ""),
                   refused, described(acts))
            tap.same(breaches(admin, deal), [], name + ": and nothing is broken afterwards")

    tap.same(sorted({c[0] for c in CASES}), sorted(titles), "every rule that rejects has a case, and no other has")
    tap.done()


if __name__ == "__main__":
    main()
