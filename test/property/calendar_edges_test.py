#!/usr/bin/python3
"""Every rule that sets a moment, judged one second before it, at it and one second after.

For each rule of the built-in regulation that has a due moment, a tolerance or a
grace, a story is made of the rule table below (which was written down from the
regulation, not from the program): what begins the duty, what answers it, and after
how long.  Each story is told twice:

    wall     no calendar, Monday morning: every hour counts
    weekend  the calendar ru-5x2 (Monday to Friday, 9 to 18), beginning on a Friday at
             17:55, so that a night and a weekend lie between
and four times each: answered a second early, in time to the second, a second late, and
not at all, then judged a second before the moment, at it, and a second after.

Stories are told in the words of test/cases and judged by test/cases/run_cases.py.
Prints TAP, a line a rule and clock.  Connects by the usual PG* variables to a database
with regcrm.  --print shows the cases.
"""
import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = os.path.join(HERE, "..", "cases", "run_cases.py")

MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
SECOND = dt.timedelta(seconds=1)

MONDAY = dt.datetime(2026, 3, 2, 10, 0)
FRIDAY = dt.datetime(2026, 3, 13, 17, 55)
LATER = "2026-12-01 12:00"


def business(at, length, hours):
    """When so much working time has passed, from 9 to 18 on weekdays: day by day."""
    if hours == "wall":
        return at + length
    while True:
        opens = at.replace(hour=9, minute=0, second=0)
        closes = at.replace(hour=18, minute=0, second=0)
        if at.weekday() < 5 and at < closes:
            begin = max(at, opens)
            if closes - begin >= length:
                return begin + length
            length -= closes - begin
        at = (at + dt.timedelta(days=1)).replace(hour=0, minute=0, second=0)


# What answers, in the words of the cases.
CALL = "call out, missed"
TALK = "call out, answered 3 min"
WRITE = "message out"
COMMENT = "comment"


def task(kind, by="by hand"):
    return "task %s added, due %s %s" % (kind, LATER, by)


class Rule:
    """A row of the table: what begins the duty and what answers it.

    before: minutes before the beginning and what happens then.  The deal is created
    an hour before, unless the beginning is its creation.
    """

    def __init__(self, code, form, length, begin, answer, before=(), b=False):
        self.code = code
        self.form = form
        self.length = length
        self.begin = begin
        self.answer = answer
        self.before = before
        self.business = b


CREATED = "deal created in new"


def move(stage, by=""):
    return ("moves to %s %s" % (stage, by)).strip()


def enter(code, stage, length, answer, b=False, by="", form="enter"):
    return Rule(code, form, length, move(stage, by), answer, b=b)


def leave(code, stage, to, length, answer):
    return Rule(code, "leave", length, move(to), answer, [] if stage == "new" else [(10, move(stage))])


def inside(code, stage, length, begin, answer, b=False, more=()):
    first = [] if stage == "new" else [(10, move(stage))]
    return Rule(code, "within", length, begin, answer, first + list(more), b)


M = MINUTE
RULES = [
    # Новые заявки
    Rule("NEW-1", "within", 15 * M, CREATED, CALL, b=True),
    leave("NEW-2", "new", "in_work", M, "scenario in_work"),
    Rule("NEW-4", "always", 15 * M, CREATED, task("other"), b=True),
    leave("NEW-5", "new", "deferred", M, COMMENT),
    leave("NEW-8", "new", "in_work", M, "field lead_date = 2026-03-01"),
    Rule("NEW-9", "within", 9 * HOUR, CREATED, move("in_work"), b=True),
    Rule("NEW-12", "enter", 5 * M, CREATED, task("process_request", "by bot")),
    # Взято в работу
    enter("WRK-1", "in_work", M, TALK),
    inside("WRK-2", "in_work", HOUR, "call in, answered 3 min", "scenario deciding", b=True),
    leave("WRK-2L", "in_work", "deciding", M, "scenario deciding"),
    enter("WRK-4", "in_work", 15 * M, task("other"), b=True, form="always"),
    leave("WRK-5", "in_work", "deferred", M, COMMENT),
    enter("WRK-6", "in_work", 9 * HOUR, COMMENT, b=True, form="within"),
    enter("WRK-9", "in_work", 5 * M, task("process_request", "by bot")),
    # Не было 1 касания
    enter("MISS-1", "no_answer", 30 * M, WRITE, b=True),
    enter("MISS-3", "no_answer", M, CALL),
    inside("MISS-6", "no_answer", HOUR, CALL, "scenario no_answer", b=True),
    inside("MISS-6T", "no_answer", HOUR, "call in, answered 3 min", "scenario in_work", b=True),
    inside("MISS-7", "no_answer", HOUR, None, CALL, b=True, more=[(5, "task callback added, due {T} by hand")]),
    inside("MISS-8", "no_answer", HOUR, "message in", move("messaging"), b=True),
    inside("MISS-9", "no_answer", HOUR, "call in, answered 3 min", move("in_work"), b=True),
    inside("MISS-10", "no_answer", 5 * M, "scenario no_answer", move("unqualified", "by bot"),
           more=[(8, "scenario no_answer"), (6, "scenario no_answer")]),
    enter("MISS-11", "unqualified", 5 * M, "field reason = дорого", by="by bot"),
    inside("MISS-12N", "new", 5 * M, "scenario no_answer", move("no_answer", "by bot")),
    inside("MISS-12W", "in_work", 5 * M, "scenario no_answer", move("no_answer", "by bot")),
    enter("MISS-13", "no_answer", 5 * M, task("callback", "by bot")),
    inside("MISS-13B", "no_answer", 5 * M, "scenario no_answer", task("callback", "by bot")),
    enter("MISS-15", "no_answer", 15 * M, task("other"), b=True, form="always"),
    # Ведётся переписка
    enter("CHAT-3", "messaging", 72 * HOUR, move("deciding"), form="within"),
    leave("CHAT-7", "messaging", "deciding", M, COMMENT),
    enter("CHAT-8", "messaging", M, TALK),
    inside("CHAT-9", "messaging", 9 * HOUR, "message in", WRITE, b=True),
    enter("CHAT-9E", "messaging", 9 * HOUR, WRITE, b=True, form="within"),
    # Принимает решение
    enter("DEC-1", "deciding", M, TALK),
    enter("DEC-3", "deciding", 5 * M, task("other"), form="always"),
    inside("DEC-4", "deciding", HOUR, None, CALL, b=True, more=[(5, "task callback added, due {T} by hand")]),
    enter("DEC-6", "deciding", 15 * M, COMMENT),
    enter("DEC-8", "deciding", 14 * 24 * HOUR, move("meeting"), form="within"),
    # Встреча назначена; the meeting itself is the due moment of MEET-4, a day ahead
    enter("MEET-1", "meeting", M, "field meeting_at = %s" % LATER, form="always"),
    enter("MEET-2", "meeting", 5 * M, task("meeting_control"), form="always"),
    Rule("MEET-4", "within", 24 * HOUR, move("meeting"), CALL, [(5, "field meeting_at = {DUE}")]),
    Rule("MEET-5", "within", 9 * HOUR, None, move("deciding"), [(30, "field meeting_at = {T}"), (10, move("meeting"))], True),
    enter("MEET-5E", "meeting", 9 * HOUR, move("deciding"), b=True, form="within"),
    enter("MEET-7", "meeting", M, TALK),
    # Онлайн договор
    enter("ONC-1", "contract", M, COMMENT),
    enter("ONC-2", "contract", 5 * M, task("contract_control"), form="always"),
    enter("ONC-4", "contract", 27 * HOUR, move("lost"), b=True, form="within"),
    inside("ONC-5", "contract", 9 * HOUR, "field paid_at = {T}", move("won"), b=True, more=[(5, "field signed_at = {T}")]),
    enter("ONC-6", "contract", 9 * HOUR, WRITE, b=True, form="within"),
    enter("ONC-7", "contract", M, TALK),
    # Отложенный спрос; a date comes at midnight
    enter("DEF-2", "deferred", M, "field return_on = 2026-12-01", form="always"),
    enter("DEF-2P", "deferred", M, "field return_on = 2026-12-01"),
    enter("DEF-4", "deferred", 5 * M, task("other"), form="always"),
    Rule("DEF-5", "within", 9 * HOUR, "midnight", CALL, [(30, "field return_on = {DATE}"), (20, move("deferred"))], True),
    enter("DEF-7", "deferred", M, TALK),
    enter("DEF-8", "deferred", HOUR, "field return_on = 2026-12-01", form="never"),
    # Не продали
    enter("LOST-2", "lost", M, "field reason = дорого"),
    enter("LOST-3", "lost", 5 * M, CALL, form="never"),
    Rule("LOST-4", "always", 5 * M, move("lost"), "task other done", [(5, task("other"))]),
    enter("LOST-6", "lost", M, TALK),
    # Не целевой
    enter("NQ-2", "unqualified", M, "field reason = дорого"),
    enter("NQ-3", "unqualified", 5 * M, CALL, form="never"),
    Rule("NQ-4", "always", 5 * M, move("unqualified"), "task other done", [(5, task("other"))]),
    enter("NQ-6", "unqualified", M, TALK),
    # Договор
    enter("WON-1", "won", M, "field signed_at = {T}"),
    enter("WON-2", "won", M, "field paid_at = {T}"),
    Rule("WON-5", "always", 5 * M, move("won"), "task other done", [(5, task("other"))]),
    enter("WON-6", "won", 5 * M, "field skip_task_check = true", form="always"),
    enter("WON-7", "won", 5 * M, CALL, form="never"),
]


# Rules that warn before: a second before the due moment the warning has come.
WARN = {"NEW-1", "NEW-9", "MISS-7", "CHAT-3", "DEC-4", "MEET-4", "ONC-4"}


def told(at):
    return at.strftime("%Y-%m-%d %H:%M:%S")


def story(rule, hours):
    """The beginning, the due moment, and what happens up to the beginning."""
    begin = MONDAY if hours == "wall" else FRIDAY
    if rule.begin == "midnight":
        begin = begin.replace(hour=0, minute=0) + dt.timedelta(days=1)
    due = business(begin, rule.length, hours if rule.business else "wall")
    lines = []
    if rule.begin != CREATED:
        lines.append((begin - HOUR, CREATED))
    for minutes, what in rule.before:
        lines.append((begin - minutes * MINUTE, what))
    if rule.begin not in (None, "midnight"):
        lines.append((begin, rule.begin))
    words = {"T": told(begin), "DUE": told(due), "DATE": begin.strftime("%Y-%m-%d")}
    return due, words, [(at, what.format(**words)) for at, what in lines]


def expected(rule, due, at):
    """What is to be found once it was answered at that moment."""
    if rule.form == "never":
        return "nothing" if at <= due else "broken at %s" % told(at)
    if at <= due:
        return "met at %s, due %s" % (told(at), told(due))
    if rule.form == "leave":
        return "broken at %s, due %s, as a moment" % (told(due), told(due))
    return "broken at %s, due %s, resolved at %s as met" % (told(due), told(due), told(at))


def cases(rule, hours):
    """Texts of cases, each with its title."""
    due, words, before = story(rule, hours)
    for name, at in (("a second early", due - SECOND), ("to the second", due),
                     ("a second late", due + SECOND), ("never", None)):
        title = "%s edge: %s, %s" % (rule.code, hours, name)
        lines = ["case " + title]
        if hours == "weekend":
            lines.append("  calendar: ru-5x2")
        lines += ["  %s  %s" % (told(t), what) for t, what in before]
        if at is not None:
            lines.append("  %s  %s" % (told(at), rule.answer.format(**words)))
            lines.append("  judged at %s" % told(due + HOUR))
            lines.append("  %s: %s" % (rule.code, expected(rule, due, at)))
        elif rule.form == "never":
            continue
        else:
            lines.append("  judged at %s" % told(due - SECOND))
            lines.append("  %s: %s due %s" % (rule.code, "warned" if rule.code in WARN else "pending", told(due)))
            for judged in (due, due + SECOND):
                lines.append("  judged at %s" % told(judged))
                lines.append("  %s: broken at %s, due %s" % (rule.code, told(due), told(due)))
        yield title, "\n".join(lines)


def uncovered():
    """Rules of the database that set a moment and stand not in the table above, and the reverse."""
    import psycopg2
    with psycopg2.connect("") as conn, conn.cursor() as cur:
        cur.execute("SELECT code FROM regcrm.rule WHERE regulation = 'idrive' AND (within > '0' OR by IS NOT NULL)")
        there = {code for code, in cur.fetchall()}
    return sorted(there ^ {r.code for r in RULES})


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--print", action="store_true", dest="show", help="show the cases, judge nothing")
    args = p.parse_args()
    made = {(r.code, h): list(cases(r, h)) for r in RULES for h in ("wall", "weekend")}
    text = "\n\n".join(t for group in made.values() for _, t in group) + "\n"
    if args.show:
        print(text)
        return 0
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        done = subprocess.run([sys.executable, CASES, "--base", "500000", f.name],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    failed = {}
    passed = set()
    current = None
    for line in done.stdout.splitlines():
        m = re.match(r"(not ok|ok) \d+ - (.*)", line)
        if m:
            current = m.group(2) if m.group(1) == "not ok" else None
            if current is None:
                passed.add(m.group(2))
            else:
                failed[current] = []
        elif current is not None:
            failed[current].append(line)
    number = 0
    bad = 0

    def ok(good, what, why=()):
        nonlocal number, bad
        number += 1
        bad += not good
        print("%sok %d - %s" % ("" if good else "not ", number, what))
        for line in why:
            print("# " + line)

    missing = uncovered()
    ok(not missing, "every rule that sets a moment has its story", missing)
    for (code, hours), group in made.items():
        why = []
        for title, _ in group:
            for name, lines in failed.items():
                if title in name:
                    why += [name] + lines
            if not any(title in name for name in passed) and not any(title in name for name in failed):
                why.append("was not judged: " + title)
        ok(not why, "%s, %s: %d cases" % (code, hours, len(group)), why)
    print("1..%d" % number)
    if done.returncode not in (0, 1):
        print("# run_cases.py ended with %d" % done.returncode)
        print("\n".join("# " + line for line in done.stdout.splitlines()[-20:]))
    return 1 if bad or done.returncode > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
