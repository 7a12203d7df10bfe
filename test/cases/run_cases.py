#!/usr/bin/python3
"""Run the hand-worked cases of this folder against a database that has regcrm.

The cases are text files (README.md describes their language).  This program
has four parts, in this order: words and times, the parser (text -> Case),
the loader (Case -> rows), the comparison (rows of regcrm.judge -> TAP).

It knows no rule: what a rule demands stands in the cases alone.
Everything is loaded in one transaction and rolled back, unless --keep.
"""

import argparse
import datetime as dt
import glob
import os
import random
import re
import signal
import sys
from zoneinfo import ZoneInfo

HERE = os.path.dirname(os.path.abspath(__file__))

STAGES = ("new in_work no_answer messaging deciding meeting contract "
          "deferred lost unqualified won").split()
TASK_KINDS = "process_request callback meeting_control contract_control other".split()
MOMENTS = "meeting_at agreed_at signed_at paid_at".split()
DATES = "lead_date return_on".split()
FLAGS = ["skip_task_check"]
TEXTS = "reason pause_reason".split()
FIELDS = MOMENTS + DATES + FLAGS + TEXTS
FEEDS = "calls messages tasks comments".split()
FIELD_FEEDS = ["field:" + f for f in FIELDS + ["scenario"]]     # the CRM keeps the scenario in a field
SCENARIOS = [s for s in STAGES if s not in ("new", "won")]

# The rules of the built-in regulation, for --coverage without a database.
RULES = """
FLOW NEW-1 NEW-2 NEW-2M NEW-3 NEW-4 NEW-5 NEW-6 NEW-7 NEW-7W NEW-8 NEW-9 NEW-10
NEW-12 NEW-13 WRK-1 WRK-2 WRK-2L WRK-4 WRK-5 WRK-6 WRK-7 WRK-8 WRK-9 WRK-10
MISS-1 MISS-2 MISS-3 MISS-5 MISS-6 MISS-6T MISS-7 MISS-8 MISS-9 MISS-10 MISS-11
MISS-12N MISS-12W MISS-13 MISS-13B MISS-14 MISS-15 CHAT-1 CHAT-2 CHAT-3 CHAT-4
CHAT-5 CHAT-6 CHAT-7 CHAT-8 CHAT-9 CHAT-9E CHAT-10 CHAT-11 DEC-1 DEC-2 DEC-3
DEC-4 DEC-5 DEC-6 DEC-8 MEET-1 MEET-2 MEET-4 MEET-5 MEET-5E MEET-6 MEET-7 ONC-1
ONC-2 ONC-3 ONC-4 ONC-5 ONC-6 ONC-7 DEF-1 DEF-2 DEF-2P DEF-3 DEF-4 DEF-5 DEF-6
DEF-7 DEF-8 LOST-1 LOST-2 LOST-3 LOST-4 LOST-5 LOST-6 NQ-1 NQ-2 NQ-3 NQ-4 NQ-5
NQ-6 WON-1 WON-2 WON-3 WON-4 WON-5 WON-6 WON-7 WON-8
""".split()

DEFAULT_DAY = dt.date(2026, 3, 2)       # a Monday
DEFAULT_ZONE = "Europe/Moscow"
DEAL = 1                                # each account holds one deal
MANAGER = 1                             # who acts where nobody is named


# --------------------------------------------------------------------------
# Words and times
# --------------------------------------------------------------------------

class Bad(Exception):
    """A line that can't be read; the text says what was expected."""


TIME = r"(?:(?:\d{4}-\d\d-\d\d|\+\d+d|-\d+d)\s+)?\d\d?:\d\d(?::\d\d(?:\.\d+)?)?"
TIME_RE = re.compile(
    r"(?:(?:(\d{4}-\d\d-\d\d)|([+-]\d+)d)\s+)?(\d\d?):(\d\d)(?::(\d\d)(?:\.(\d+))?)?$")
CODE = r"[A-Z]+(?:-[0-9A-Z]+)?"
TIME_HELP = "a time: 10:15, 10:15:00, +1d 10:15:00 or 2026-03-03 10:15:00"

UNITS = {"s": 1, "sec": 1, "second": 1, "seconds": 1,
         "min": 60, "minute": 60, "minutes": 60,
         "h": 3600, "hour": 3600, "hours": 3600,
         "d": 86400, "day": 86400, "days": 86400}
DURATION = r"\d+\s*(?:%s)(?:\s+\d+\s*(?:%s))*" % (("|".join(sorted(UNITS, key=len, reverse=True)),) * 2)


def duration(text):
    """'14 min 59 s' -> timedelta."""
    if not re.fullmatch(DURATION, text.strip()):
        raise Bad("expected a duration such as 40 s, 15 min, 14 min 59 s, 9 h or 3 days, not %r" % text)
    total = sum(int(n) * UNITS[u] for n, u in re.findall(r"(\d+)\s*([a-z]+)", text))
    return dt.timedelta(seconds=total)


def one_of(word, known, what):
    if word not in known:
        raise Bad("unknown %s %r; known: %s" % (what, word, ", ".join(known)))
    return word


def show(t, case):
    """A moment as the case's author would write it."""
    if t is None:
        return "never"
    if t in (dt.datetime.max, dt.datetime.min):
        return str(t)
    local = t.astimezone(case.zone)
    clock = local.strftime("%H:%M:%S") + (".%06d" % local.microsecond if local.microsecond else "")
    days = (local.date() - case.day).days
    return clock if days == 0 else "%+dd %s" % (days, clock)


def show_gap(d):
    s = int(d.total_seconds())
    out = []
    for n, u in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if s >= n:
            out.append("%d %s" % (s // n, u))
            s %= n
    return " ".join(out) or "0 s"


# --------------------------------------------------------------------------
# The parser
# --------------------------------------------------------------------------

class Case:
    """One case: settings, facts, and what is expected when judged."""

    def __init__(self, codes, kind, title, path, line):
        self.codes, self.kind, self.title = codes, kind, title
        self.path, self.line = path, line
        self.number, self.unread = None, False
        self.zone, self.day = ZoneInfo(DEFAULT_ZONE), DEFAULT_DAY
        self.zone_name = DEFAULT_ZONE
        self.calendar = None
        self.absent = []                # feeds not connected
        self.since = []                 # (feed, since)
        self.known_from = self.known_until = None
        self.out_of_scope = set()
        self.managers = {MANAGER}
        self.rule_edits = []            # (code, what, moment, interval)
        self.move_edits = []            # (from, to, what, moment)
        self.created = None             # (at, stage or None, manager)
        self.deleted = None
        self.path_of_stages = []        # every stage of the deal, in order
        self.events = []                # dicts, in the order of the file
        self.tasks = {}                 # name -> dict
        self.task_order = []
        self.blocks = []                # (kind, moment, [(line, code, Expect)])

    @property
    def name(self):
        head = ", ".join(self.codes) if self.codes else "general"
        return "%s%s: %s" % (head, " " + self.kind if self.kind else "", self.title)

    @property
    def where(self):
        return "%s:%d" % (os.path.basename(self.path), self.line)

    def moment(self, text):
        m = TIME_RE.match(text.strip())
        if not m:
            raise Bad("expected %s, not %r" % (TIME_HELP, text))
        day, plus, h, mi, s, frac = m.groups()
        date = dt.date.fromisoformat(day) if day else self.day + dt.timedelta(int(plus or 0))
        if int(h) > 23 or int(mi) > 59 or int(s or 0) > 59:
            raise Bad("no such time of day: %r" % text)
        us = int(((frac or "") + "000000")[:6])
        return dt.datetime(date.year, date.month, date.day, int(h), int(mi), int(s or 0), us,
                           tzinfo=self.zone).astimezone(dt.timezone.utc)

    def date(self, text):
        text = text.strip()
        m = re.fullmatch(r"([+-]\d+)d", text)
        if m:
            return self.day + dt.timedelta(int(m.group(1)))
        try:
            return dt.date.fromisoformat(text)
        except ValueError:
            raise Bad("expected a date: 2026-03-05 or +3d, not %r" % text)


class Expect:
    """What one line demands of one rule."""

    def __init__(self, text):
        self.text = text
        self.head = None        # nothing kept met pending warned cancelled broken count
        self.attrs = {}         # column -> moment, and the like
        self.count = None


def strip_comment(line):
    """Drops a comment: '#' at the line's start or after a blank, outside quotes."""
    quoted = False
    for i, c in enumerate(line):
        if c == '"':
            quoted = not quoted
        elif c == "#" and not quoted and (i == 0 or line[i - 1].isspace()):
            return line[:i]
    return line


def parse_file(path):
    cases, errors = [], []
    case, graph, block = None, None, None
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    for number, raw in enumerate(lines, 1):
        text = strip_comment(raw).rstrip()
        if not text.strip():
            continue
        try:
            if not text[0].isspace():
                block = None
                if text == "graph":
                    graph, case = {"path": path, "line": number, "out": {}}, None
                    cases.append(graph)
                    continue
                graph = None
                case = parse_header(text, path, number)
                cases.append(case)
            elif graph is not None:
                parse_graph_line(graph, text.strip())
            elif case is None:
                raise Bad("expected a case first: a line such as \"case NEW-1 kept: what happened\"")
            else:
                block = parse_line(case, block, text.strip(), number)
        except (Bad, ValueError) as e:
            errors.append("%s:%d: %s" % (path, number, e))
            if case:
                case.unread = True
    done = []
    for c in cases:
        if isinstance(c, dict):
            done += expand_graph(c)
        elif not c.unread:              # else what is missing may be in the line that was not understood
            errors += ["%s:%d: %s" % (c.path, c.line, e) for e in finish(c)]
            done.append(c)
    return done, errors


def parse_header(text, path, number):
    m = re.fullmatch(r"case\s+(?:general|(%s(?:\s*,\s*%s)*))(?:\s+(kept|broken|edge))?\s*:\s*(.+)" % (CODE, CODE), text)
    if not m:
        raise Bad("expected \"case RULE kept|broken|edge: title\" or \"case general: title\" "
                  "(lines that belong to a case begin with blanks)")
    codes = [c.strip() for c in m.group(1).split(",")] if m.group(1) else []
    if codes and not m.group(2):
        raise Bad("expected kept, broken or edge after the rule's code")
    return Case(codes, m.group(2), m.group(3).strip(), path, number)


def parse_line(case, block, text, number):
    """Reads one line of a case; returns the block of expectations it leaves open."""
    m = re.fullmatch(r"judged at (%s)\s*:?" % TIME, text)
    if m:
        case.blocks.append(("judge", case.moment(m.group(1)), []))
        return case.blocks[-1]
    if text.rstrip(":") == "in the ledger":
        case.blocks.append(("ledger", None, []))
        return case.blocks[-1]
    m = re.match(r"(%s)\s+(?=\S)(?![:])" % TIME, text)
    if m:
        at = case.moment(m.group(1))
        act = text[m.end():].strip()
        parse_act(case, at, act, number)
        return None
    if block is not None:
        m = re.fullmatch(r"(%s)\s*:\s*(.+)" % CODE, text)
        if not m:
            raise Bad("expected \"RULE: expectation\", another \"judged at TIME\", or a fact that begins with a time")
        block[2].append((number, m.group(1), parse_expect(case, m.group(2).strip())))
        return block
    if re.match(CODE + r"\s*:", text):
        raise Bad("what is expected of a rule stands below a line \"judged at TIME\"")
    parse_setting(case, text)
    return None


def parse_setting(case, text):
    m = re.fullmatch(r"([^:]+?)\s*:\s*(.+)", text)
    if not m:
        raise Bad("expected a fact (\"10:00:00 deal created in new\"), a setting (\"calendar: daily-9-20\") "
                  "or \"judged at TIME\"")
    key, value = m.group(1), m.group(2).strip()
    if case.created and key in ("zone", "day"):
        raise Bad("%s must stand before the first fact" % key)
    if key == "calendar":
        case.calendar = None if value == "none" else value
    elif key == "zone":
        try:
            case.zone, case.zone_name = ZoneInfo(value), value
        except Exception:
            raise Bad("unknown time zone %r" % value)
    elif key == "day":
        case.day = case.date(value)
    elif key == "not connected":
        for feed in re.split(r"\s*,\s*", value):
            check_feed(feed)
            case.absent.append(feed)
    elif key == "connected since":
        m = re.fullmatch(r"(%s)\s*,\s*(\S+)" % TIME, value)
        if not m:
            raise Bad("expected \"connected since: TIME, FEED\"")
        check_feed(m.group(2))
        case.since.append((m.group(2), case.moment(m.group(1))))
    elif key == "known from":
        case.known_from = case.moment(value)
    elif key == "known until":
        case.known_until = case.moment(value)
    elif re.fullmatch(r"manager \d+", key):
        if value != "not in scope":
            raise Bad("expected \"manager N: not in scope\"")
        case.out_of_scope.add(int(key.split()[1]))
        case.managers.add(int(key.split()[1]))
    elif key.startswith("rule "):
        code = key.split(None, 1)[1]
        if not re.fullmatch(CODE, code):
            raise Bad("expected a rule's code after \"rule\", not %r" % code)
        m = re.fullmatch(r"(closed at|begins at)\s+(%s)" % TIME, value)
        if m:
            case.rule_edits.append((code, m.group(1).split()[0], case.moment(m.group(2)), None))
            return
        m = re.fullmatch(r"within (%s) from (%s)" % (DURATION, TIME), value)
        if m:
            case.rule_edits.append((code, "within", case.moment(m.group(2)), duration(m.group(1))))
            return
        if value == "disabled":
            case.rule_edits.append((code, "disabled", None, None))
            return
        raise Bad("expected \"rule CODE: closed at TIME\", \"begins at TIME\", \"within DURATION from TIME\" or \"disabled\"")
    elif key.startswith("way "):
        m = re.fullmatch(r"way (\w+) -> (\w+)", key)
        n = re.fullmatch(r"closed at (%s)|(comment required)" % TIME, value)
        if not m or not n:
            raise Bad("expected \"way STAGE -> STAGE: closed at TIME\" or \"… comment required\"")
        for s in m.groups():
            one_of(s, STAGES, "stage")
        if n.group(2):
            case.move_edits.append((m.group(1), m.group(2), "comment", None))
        else:
            case.move_edits.append((m.group(1), m.group(2), "closed", case.moment(n.group(1))))
    else:
        raise Bad("unknown setting %r; known: calendar, zone, day, not connected, connected since, known from, "
                  "known until, manager N, rule CODE, way STAGE -> STAGE" % key)


def check_feed(feed):
    if feed.startswith("field:"):
        one_of(feed, FIELD_FEEDS, "field")
    else:
        one_of(feed, FEEDS, "feed")


def parse_act(case, at, text, number):
    """Reads one fact.  The words are cut off from the end: who did it, and then what it was."""
    e = {"at": at, "line": number, "by_bot": False, "actor": MANAGER}

    m = re.search(r",?\s+\(source (\S+)\)$", text)
    if m:
        e["source_id"] = m.group(1)
        text = text[:m.start()]
    by = None
    m = re.search(r"\s+by (bot|hand|manager \d+)$", text)
    if m:
        by = m.group(1)
        text = text[:m.start()]
        if by == "bot":
            e["by_bot"], e["actor"] = True, None
        elif by != "hand":
            e["actor"] = int(by.split()[1])
            case.managers.add(e["actor"])

    def put(kind, **more):
        e.update(kind=kind, **more)
        case.events.append(e)

    m = re.fullmatch(r"deal created in (an unknown stage|\w+)", text)
    if m:
        if case.created:
            raise Bad("the deal is created twice")
        stage = None if m.group(1).startswith("an ") else one_of(m.group(1), STAGES, "stage")
        case.created = (at, stage, e["actor"])
        if e["actor"] == MANAGER:
            e["actor"] = None           # a lead comes by itself
        return put("stage", to=stage, origin="begin")
    if text == "deal deleted":
        case.deleted = at
        return
    m = re.fullmatch(r"moves? to (an unknown stage|\w+)(?: from (an unknown stage|where it stood|\w+))?", text)
    if m:
        stage = None if m.group(1).startswith("an ") else one_of(m.group(1), STAGES, "stage")
        origin = m.group(2)
        if origin in (None, "where it stood", "an unknown stage"):
            pass
        else:
            one_of(origin, STAGES, "stage")
        return put("stage", to=stage, origin=origin)
    m = re.fullmatch(r"call (out|in), (missed|answered (%s))" % DURATION, text)
    if m:
        missed = m.group(2) == "missed"
        if missed and m.group(1) == "in" and by is None:
            e["actor"] = None
        return put("call_" + m.group(1), answered=not missed,
                   duration=dt.timedelta(0) if missed else duration(m.group(3)))
    if re.match(r"call\b", text):
        raise Bad("expected \"call out, missed\", \"call out, answered 3 min\" (or call in)")
    if text in ("message out", "message in"):
        if text == "message in":
            e["actor"] = None
        return put("message_" + text.split()[1], channel="whatsapp")
    m = re.fullmatch(r"task (\w+) added(?: as (\w+))?, due (%s)" % TIME, text)
    if m:
        kind = one_of(m.group(1), TASK_KINDS, "task kind")
        name = m.group(2) or kind
        if name in case.tasks:
            raise Bad("there is a task %r already; name this one: \"task %s added as NAME, due TIME\"" % (name, kind))
        if by is None:
            raise Bad("say who added the task: \"by bot\" or \"by hand\"")
        case.tasks[name] = {"kind": kind, "at": at, "due": case.moment(m.group(3)), "by_bot": e["by_bot"],
                            "manager": e["actor"] or MANAGER, "done": None, "deleted": None, "line": number}
        case.task_order.append(name)
        return
    if re.match(r"task \w+ added", text):
        raise Bad("expected \"task KIND added, due TIME by bot|by hand\" (or \"added as NAME, due …\")")
    m = re.fullmatch(r"task (\w+) done", text)
    if m:
        task = known_task(case, m.group(1))
        if task["done"]:
            raise Bad("the task is done twice")
        task["done"] = at
        return
    m = re.fullmatch(r"task (\w+) deleted", text)
    if m:
        known_task(case, m.group(1))["deleted"] = at
        return
    m = re.fullmatch(r"task (\w+) due moved to (%s)" % TIME, text)
    if m:
        known_task(case, m.group(1))["due"] = case.moment(m.group(2))
        return
    m = re.fullmatch(r"scenario (\w+)", text)
    if m:
        return put("scenario", scenario=one_of(m.group(1), SCENARIOS, "scenario"))
    m = re.fullmatch(r"comment(?: \"(.*)\")?", text)
    if m:
        return put("comment", body=m.group(1) or "…")
    m = re.fullmatch(r"field (\w+) (?:= (.+)|(emptied))", text)
    if m:
        name = one_of(m.group(1), FIELDS, "field")
        return put("field", field=name, value=None if m.group(3) else field_value(case, name, m.group(2).strip()))
    m = re.fullmatch(r"verdict (%s) (pass|fail)(?: \"(.*)\")?" % CODE, text)
    if m:
        e["actor"] = None
        return put("verdict", field=m.group(1), value=m.group(2), body=m.group(3))
    if text in ("request", "visit", "robot"):
        if text == "robot":
            e["by_bot"] = True
        e["actor"] = None
        return put(text)
    m = re.fullmatch(r"responsible = (\d+)", text)
    if m:
        case.managers.add(int(m.group(1)))
        return put("responsible", value=m.group(1))
    raise Bad("unknown act %r; known: deal created in STAGE, moves to STAGE, call out|in, message out|in, "
              "task KIND added, task NAME done, task NAME deleted, task NAME due moved to, scenario CODE, comment, field NAME = VALUE, "
              "field NAME emptied, verdict RULE pass|fail, request, visit, robot, responsible = N, deal deleted" % text)


def known_task(case, name):
    if name not in case.tasks:
        raise Bad("no task %r was added above" % name)
    return case.tasks[name]


def field_value(case, name, text):
    """The text form that the database would give."""
    if name in MOMENTS:
        return case.moment(text).strftime("%Y-%m-%d %H:%M:%S+00")
    if name in DATES:
        return case.date(text).isoformat()
    if name in FLAGS:
        return one_of(text, ["true", "false"], "value")
    return text.strip('"')


def parse_expect(case, text):
    x = Expect(text)
    parts = [p.strip() for p in text.split(",")]
    m = re.fullmatch(r"(\d+) findings?", text)
    if m:
        x.head, x.count = "count", int(m.group(1))
        return x
    m = re.fullmatch(r"broken (\d+) times: at (.+)", text)
    if m:
        x.head, x.count = "times", int(m.group(1))
        x.attrs["times"] = [case.moment(t) for t in m.group(2).split(",")]
        if len(x.attrs["times"]) != x.count:
            raise Bad("broken %d times, but %d moments are given" % (x.count, len(x.attrs["times"])))
        return x
    first = parts[0]
    m = re.fullmatch(r"(nothing|kept|met|pending|warned|cancelled|broken)(?: (at|due) (%s))?" % TIME, first)
    if not m:
        raise Bad("expected nothing, kept, met at TIME, pending due TIME, warned due TIME, cancelled, broken at TIME, "
                  "broken N times: at TIME, TIME, or N findings; not %r" % first)
    x.head = m.group(1)
    want = {"met": "at", "broken": "at", "pending": "due", "warned": "due", "cancelled": "due"}
    if m.group(2):
        if want.get(x.head) != m.group(2):
            raise Bad("%r can't be said of %r" % (m.group(2), x.head))
        x.attrs[{"met": "met_at", "broken": "breached_at"}.get(x.head, "due_at")] = case.moment(m.group(3))
    elif x.head == "broken":
        raise Bad("expected \"broken at TIME\"")
    if x.head in ("nothing", "kept") and len(parts) > 1:
        raise Bad("%r stands alone" % x.head)
    for p in parts[1:]:
        parse_clause(case, x, p)
    return x


def parse_clause(case, x, p):
    for words, column in (("due", "due_at"), ("warn at", "warn_at"), ("arose at", "arose_at"), ("met at", "met_at")):
        m = re.fullmatch(words + r" (%s)" % TIME, p)
        if m:
            x.attrs[column] = case.moment(m.group(1))
            return
    m = re.fullmatch(r"late(?: by (%s))?" % DURATION, p)
    if m:
        x.attrs["late"] = duration(m.group(1)) if m.group(1) else True
        return
    m = re.fullmatch(r"resolved at (%s) as (met|left|moment)" % TIME, p)
    if m:
        x.attrs["resolved_at"], x.attrs["resolution"] = case.moment(m.group(1)), m.group(2)
        return
    if p == "as a moment":          # resolved at its own instant; nothing cures it
        x.attrs["resolved_at"], x.attrs["resolution"] = x.attrs["breached_at"], "moment"
        return
    if p == "open":
        x.attrs["open"] = True
        return
    m = re.fullmatch(r"task (\w+)", p)
    if m:
        x.attrs["task"] = m.group(1)
        return
    m = re.fullmatch(r"stage (\w+)", p)
    if m:
        x.attrs["stage"] = one_of(m.group(1), STAGES, "stage")
        return
    m = re.fullmatch(r"manager (\d+|nobody)", p)
    if m:
        x.attrs["manager"] = None if m.group(1) == "nobody" else int(m.group(1))
        return
    raise Bad("expected due TIME, warn at TIME, arose at TIME, met at TIME, late, late by DURATION, as a moment, "
              "resolved at TIME as met|left|moment, open, task NAME, stage STAGE or manager N; not %r" % p)


def finish(case):
    """What can only be checked when the case has been read whole."""
    errors = []
    if not case.created:
        errors.append("the case lacks a line \"TIME deal created in STAGE\"")
    if not case.blocks:
        errors.append("the case lacks \"judged at TIME\" and what is expected")
    seen = {code for b in case.blocks for _, code, _ in b[2]}
    for code in case.codes:
        if code not in seen:
            errors.append("the case is about %s but expects nothing of it" % code)
    for b in case.blocks:
        if not b[2]:
            errors.append("nothing is expected where the case is judged")
        for line, code, x in b[2]:
            if "task" in x.attrs and x.attrs["task"] not in case.tasks:
                errors.append("line %d: no task %r in the case" % (line, x.attrs["task"]))
            if b[0] == "judge" and "manager" in x.attrs:
                errors.append("line %d: whose breach it is, only the ledger says (\"in the ledger\")" % line)
            if b[0] == "ledger" and x.head not in ("kept", "nothing", "broken", "times"):
                errors.append("line %d: the ledger holds breaches only: kept or broken" % line)
            if code not in RULES:
                errors.append("line %d: unknown rule %s" % (line, code))
    # Times go downwards, so that a case reads as a story; only facts of one instant may stand in any order.
    last = None
    for e in sorted(case.events + [dict(t, kind="task") for t in case.tasks.values()], key=lambda e: e["line"]):
        if last and e["at"] < last["at"]:
            errors.append("line %d: earlier than the line above it" % e["line"])
        last = e
    chain_moves(case)
    return errors


def chain_moves(case):
    """Gives each move its source, and finds in which order the deal went through them.

    A move that names no source comes from where the deal stood.  Moves of one
    second are chained by the sources they name, else they go by the number of
    their source in the CRM, else by their place in the file.
    """
    stood, case.path_of_stages = None, []
    moves = sorted((e for e in case.events if e["kind"] == "stage"), key=lambda e: e["at"])
    while moves:
        now = [e for e in moves if e["at"] == moves[0]["at"]]
        now.sort(key=lambda e: e.get("source_id", ""))
        e = next((e for e in now if e["origin"] not in (None, "begin") and e["origin"] == stood), now[0])
        e["from"] = e["origin"] if e["origin"] in STAGES else stood if e["origin"] is None else None
        stood = e["to"]
        case.path_of_stages.append(stood)
        moves.remove(e)


def parse_graph_line(graph, text):
    m = re.fullmatch(r"(begin|\w+)\s*:\s*(.*)", text)
    if not m:
        raise Bad("expected \"STAGE: STAGE STAGE …\", the legal ways out of a stage")
    if m.group(1) != "begin":
        one_of(m.group(1), STAGES, "stage")
    targets = m.group(2).split()
    if targets == ["nowhere"]:
        targets = []
    for t in targets:
        one_of(t, STAGES, "stage")
    graph["out"][m.group(1)] = targets


def expand_graph(graph):
    """One small case for each of the 121 moves: the legal ones named in the graph, and all others."""
    cases = []

    def add(title, kind, lines):
        c = Case(["FLOW"], kind, title, graph["path"], graph["line"])
        block = None
        for l in lines:
            block = parse_line(c, block, l, graph["line"])
        bad = finish(c)
        assert not bad, bad
        cases.append(c)

    def wrong_begin(s):
        return s not in graph["out"].get("begin", [])

    for s in STAGES:
        ok = not wrong_begin(s)
        add("graph, a deal may %sbegin in %s" % ("" if ok else "not ", s), "kept" if ok else "broken",
            ["10:00:00  deal created in " + s, "judged at 18:00:00",
             "FLOW: " + ("kept" if ok else "broken at 10:00:00, as a moment, stage " + s)])
    for s in STAGES:
        for t in STAGES:
            if s == t:
                continue
            ok = t in graph["out"].get(s, [])
            expect = []
            if wrong_begin(s):
                expect.append("FLOW: broken at 10:00:00, stage " + s)
            if not ok:
                expect.append("FLOW: broken at 12:00:00, as a moment, stage " + t)
            add("graph, %s -> %s is %s" % (s, t, "legal" if ok else "illegal"), "kept" if ok else "broken",
                ["10:00:00  deal created in " + s, "12:00:00  moves to " + t, "judged at 18:00:00"]
                + (expect or ["FLOW: kept"]))
    return cases


# --------------------------------------------------------------------------
# The loader
# --------------------------------------------------------------------------

class Loader:
    """Cases -> rows of regcrm's tables, many cases in few statements."""

    def __init__(self, conn, mode, base, shuffle):
        self.conn, self.mode, self.base = conn, mode, base
        self.rng = random.Random(shuffle) if shuffle is not None else None

    def account(self, case):
        return self.base + case.number

    def load(self, cases):
        from psycopg2.extras import execute_values
        cur = self.conn.cursor()
        cur.execute("set local regcrm.mode = 'off'")
        self.regulations(cur, cases)
        tables = [self.accounts(cases), self.managers(cases)]
        for table, columns, rows in tables:
            execute_values(cur, "insert into regcrm.%s (%s) values %%s" % (table, columns), rows, page_size=1000)
        self.feeds(cur, cases)
        cur.execute("set local regcrm.mode = %s", (self.mode,))
        for table, columns, rows in (self.deals(cases), self.tasks(cases), self.events(cases)):
            if self.rng:
                self.rng.shuffle(rows)
            if rows:
                execute_values(cur, "insert into regcrm.%s (%s) values %%s" % (table, columns), rows, page_size=1000)
        cur.execute("set constraints all immediate")
        cur.execute("set constraints all deferred")

    def accounts(self, cases):
        rows = [(self.account(c), c.where, "case_%d" % c.number if c.rule_edits or c.move_edits else "idrive",
                 c.zone_name, c.calendar, c.known_from, c.known_until) for c in cases]
        return "account", "id, name, regulation, time_zone, calendar, known_from, known_until", rows

    def managers(self, cases):
        rows = [(self.account(c), m, "Manager %d" % m, m not in c.out_of_scope)
                for c in cases for m in sorted(c.managers | c.out_of_scope)]
        return "manager", "account_id, id, name, in_scope", rows

    def feeds(self, cur, cases):
        """An account made by SQL has every feed.  Where one is to be absent or young, name all the others."""
        every = FEEDS + FIELD_FEEDS
        for c in cases:
            if not c.absent and not c.since:
                continue
            cur.execute("delete from regcrm.feed where account_id = %s", (self.account(c),))
            since = dict(c.since)
            for f in every:
                if f not in c.absent:
                    cur.execute("insert into regcrm.feed (account_id, feed, since) values (%s, %s, %s)"
                                " on conflict do nothing",
                                (self.account(c), f, since.get(f, "-infinity")))

    def regulations(self, cur, cases):
        """A case that edits a rule gets the whole regulation copied under a code of its own."""
        for c in cases:
            if not c.rule_edits and not c.move_edits:
                continue
            code = "case_%d" % c.number
            for table, key in (("regulation", "code"), ("transition", "regulation"), ("scenario", "regulation"),
                               ("effect", "regulation"), ("rule", "regulation")):
                cols = self.copied(cur, table)
                if not cols:
                    continue
                cur.execute('insert into regcrm.%s (%s) select %s from regcrm.%s where "%s" = \'idrive\'' % (
                    table, ", ".join('"%s"' % x for x in cols),
                    ", ".join("%s" if x == key else '"%s"' % x for x in cols), table, key), (code,))
            for rule, what, at, interval in c.rule_edits:
                if what == "disabled":
                    cur.execute("update regcrm.rule set enabled = false where regulation = %s and code = %s", (code, rule))
                elif what == "begins":
                    cur.execute("update regcrm.rule set valid = tstzrange(%s, null) where regulation = %s and code = %s",
                                (at, code, rule))
                else:
                    cur.execute("update regcrm.rule set valid = tstzrange(null, %s) where regulation = %s and code = %s",
                                (at, code, rule))
                    if what == "within":
                        cols = self.copied(cur, "rule")
                        expr = {"valid": "tstzrange(%(at)s, null)", "within": "%(interval)s"}
                        cur.execute("insert into regcrm.rule (%s) select %s from regcrm.rule"
                                    " where regulation = %%(code)s and code = %%(rule)s"
                                    % (", ".join('"%s"' % x for x in cols),
                                       ", ".join(expr.get(x, '"%s"' % x) for x in cols)),
                                    {"at": at, "interval": interval, "code": code, "rule": rule})
            for a, b, what, at in c.move_edits:
                if what == "closed":
                    cur.execute("update regcrm.transition set valid = tstzrange(null, %s)"
                                " where regulation = %s and from_stage = %s::text::regcrm.stage"
                                " and to_stage = %s::text::regcrm.stage", (at, code, a, b))
                else:
                    cur.execute("update regcrm.transition set comment_required = true"
                                " where regulation = %s and from_stage = %s::text::regcrm.stage"
                                " and to_stage = %s::text::regcrm.stage", (code, a, b))

    def copied(self, cur, table):
        """Columns of a table that a copy of a row takes along: all but numbers that the table gives by itself."""
        cur.execute("select attname from pg_catalog.pg_attribute a left join pg_catalog.pg_attrdef d"
                    " on d.adrelid = a.attrelid and d.adnum = a.attnum"
                    " where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped"
                    " and a.attidentity = '' and a.attgenerated = ''"
                    " and coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') !~ 'nextval'"
                    " order by attnum", ("regcrm." + table,))
        return [r[0] for r in cur.fetchall()]

    def deals(self, cases):
        cols = ["account_id", "id", "name", "stage", "manager_id", "created_at", "deleted_at", "is_deleted"] + FIELDS
        rows = []
        for c in cases:
            at, stage, manager = c.created
            state = dict.fromkeys(FIELDS)
            holder = manager
            if self.mode == "off":      # rows are taken as they are: give the columns their last state
                stage = c.path_of_stages[-1]
                for e in sorted(c.events, key=lambda e: e["at"]):
                    if e["kind"] == "field":
                        state[e["field"]] = e["value"]
                    elif e["kind"] == "responsible":
                        holder = int(e["value"])
            rows.append((self.account(c), DEAL, c.where, stage, holder, at, c.deleted, c.deleted is not None)
                        + tuple(state[f] for f in FIELDS))
        return "deal", ", ".join(cols), rows

    def tasks(self, cases):
        rows = []
        for c in cases:
            for i, name in enumerate(c.task_order, 1):
                t = c.tasks[name]
                t["id"] = i
                rows.append((self.account(c), i, DEAL, t["kind"], name, t["manager"], t["at"], t["by_bot"],
                             t["due"], t["done"], t["deleted"]))
        return ("task", "account_id, id, deal_id, kind, body, manager_id, created_at, by_bot, due_at, completed_at,"
                        " deleted_at", rows)

    def events(self, cases):
        cols = ("account_id id deal_id at kind by_bot actor_id from_stage to_stage answered duration channel "
                "scenario field value body source_id").split()
        rows = []
        for c in cases:
            for i, e in enumerate(c.events, 1):
                rows.append((self.account(c), i, DEAL, e["at"], e["kind"], e["by_bot"], e["actor"],
                             e.get("from"), e.get("to"), e.get("answered"), e.get("duration"), e.get("channel"),
                             e.get("scenario"), e.get("field"), e.get("value"), e.get("body"), e.get("source_id")))
        return "event", ", ".join(cols), rows


# --------------------------------------------------------------------------
# The comparison
# --------------------------------------------------------------------------

FINDING = "rule task_id stage arose_at warn_at due_at met_at breached_at resolved_at resolution state".split()


def judge_all(conn, loader, pairs):
    """pairs of (case, as_of) -> {(number, as_of): [finding]}; one query, or one a pair where that one fails."""
    import psycopg2
    select = ("select c.n, c.asof, j.rule, j.task_id, j.stage::text, j.arose_at, j.warn_at, j.due_at, j.met_at,"
              " j.breached_at, j.resolved_at, j.resolution::text, j.state::text"
              " from unnest(%s::int[], %s::timestamptz[]) c(n, asof)"
              " cross join lateral regcrm.judge(%s + c.n, %s, c.asof) j order by 1, 2, 3, 6, 4")
    found, broken = {}, {}
    cur = conn.cursor()

    def take(chunk):
        cur.execute(select, ([c.number for c, _ in chunk], [t for _, t in chunk], loader.base, DEAL))
        for row in cur.fetchall():
            found.setdefault((row[0], row[1]), []).append(dict(zip(FINDING, row[2:])))

    cur.execute("savepoint judging")
    try:
        take(pairs)
    except psycopg2.Error:
        cur.execute("rollback to judging")
        found.clear()
        for p in pairs:
            cur.execute("savepoint judging")
            try:
                take([p])
            except psycopg2.Error as e:
                cur.execute("rollback to judging")
                broken[p[0].number] = str(e).strip()
    return found, broken


def ledger_all(conn, loader, cases):
    cur = conn.cursor()
    cur.execute("select account_id - %s, rule, task_id, stage::text, manager_id, arose_at, breached_at, resolved_at,"
                " resolution::text from regcrm.violation where account_id between %s and %s and withdrawn_at is null"
                " order by 1, 2, arose_at, 3",
                (loader.base, loader.base + 1, loader.base + max(c.number for c in cases)))
    out = {}
    for r in cur.fetchall():
        f = dict(zip("rule task_id stage manager_id arose_at breached_at resolved_at resolution".split(), r[1:]))
        f.update(due_at=None, met_at=f["resolved_at"] if f["resolution"] == "met" else None, warn_at=None, state=None)
        out.setdefault(r[0], []).append(f)
    return out


def fits(case, x, f, ledger):
    """Whether finding f is what x says."""
    a = x.attrs
    if x.head == "broken":
        if f["breached_at"] is None:
            return False
    elif f["breached_at"] is not None:
        return False
    if x.head == "met" and f["state"] != "met":
        return False
    if x.head == "pending" and f["state"] not in ("pending", "warned"):
        return False
    if x.head in ("warned", "cancelled") and f["state"] != x.head:
        return False
    for col in ("breached_at", "due_at", "warn_at", "arose_at", "met_at", "resolved_at"):
        if col in a and not (ledger and col in ("due_at", "warn_at")) and f[col] != a[col]:
            return False
    if "resolution" in a and f["resolution"] != a["resolution"]:
        return False
    if a.get("open") and f["resolved_at"] is not None:
        return False
    if "late" in a and not ledger:
        if f["state"] != "late" or f["met_at"] is None:
            return False
        if a["late"] is not True and f["met_at"] - f["due_at"] != a["late"]:
            return False
    if "task" in a and f["task_id"] != case.tasks[a["task"]]["id"]:
        return False
    if "stage" in a and f["stage"] != a["stage"]:
        return False
    if "manager" in a and f["manager_id"] != a["manager"]:
        return False
    return True


def pair_off(case, expects, findings, ledger):
    """Gives each expectation a finding of its own; returns the expectations left without and the findings left over."""
    taken = {}                          # finding -> expectation, by augmenting paths

    def place(i, seen):
        for j, f in enumerate(findings):
            if j not in seen and fits(case, expects[i], f, ledger):
                seen.add(j)
                if j not in taken or place(taken[j], seen):
                    taken[j] = i
                    return True
        return False

    lost = [x for i, x in enumerate(expects) if not place(i, set())]
    return lost, [f for j, f in enumerate(findings) if j not in taken]


def compare(case, block, findings):
    """Differences between one block of expectations and the findings, as readable lines."""
    kind, at, lines = block
    ledger = kind == "ledger"
    when = "in the ledger" if ledger else "judged at " + show(at, case)
    out = []
    for code in dict.fromkeys(c for _, c, _ in lines):
        mine = [f for f in findings if f["rule"] == code]
        breaches = [f for f in mine if f["breached_at"] is not None]
        others = [f for f in mine if f["breached_at"] is None]
        xs = [x for _, c, x in lines if c == code]
        bad = []
        broken = [x for x in xs if x.head == "broken"]
        for x in xs:
            if x.head == "times":
                for t in x.attrs["times"]:
                    y = Expect(x.text)
                    y.head, y.attrs = "broken", {"breached_at": t}
                    broken.append(y)
        softer = [x for x in xs if x.head in ("met", "pending", "warned", "cancelled")]
        if any(x.head == "nothing" for x in xs) and mine and not ledger:
            bad.append("expected nothing at all")
        for x in xs:
            if x.head == "count" and len(mine) != x.count:
                bad.append("expected %s, came %d" % (x.text, len(mine)))
        if broken or any(x.head != "count" for x in xs):
            lost, extra = pair_off(case, broken, breaches, ledger)
            bad += ["expected %s" % x.text for x in lost]
            if extra and not lost:
                bad.append("expected no %sbreach" % ("other " if broken else ""))
        lost, extra = pair_off(case, softer, others, ledger)
        bad += ["expected %s" % x.text for x in lost]
        # A duty too many is a fault as well, unless the case says no more than "kept" or counts.
        if extra and not lost and (broken or softer) and all(x.head not in ("kept", "count") for x in xs):
            bad.append("expected no other duty")
        if bad:
            out.append("%s, %s:" % (code, when))
            out += ["  " + b for b in dict.fromkeys(bad)]
            out += ["  came " + describe(case, f) for f in mine] or ["  came nothing"]
    return out


def describe(case, f):
    names = {t["id"]: n for n, t in case.tasks.items() if "id" in t}
    words = [f["state"] or "breach"]
    for col, word in (("arose_at", "arose at"), ("warn_at", "warn at"), ("due_at", "due"), ("breached_at", "broken at"),
                      ("met_at", "met at"), ("resolved_at", "resolved at")):
        if f[col] is not None:
            words.append("%s %s" % (word, show(f[col], case)))
    if f["resolution"]:
        words[-1] += " as " + f["resolution"]
    if f["met_at"] and f["due_at"] and f["met_at"] > f["due_at"]:
        words.append("late by " + show_gap(f["met_at"] - f["due_at"]))
    if f["task_id"] is not None:
        words.append("task %s" % names.get(f["task_id"], f["task_id"]))
    if f["stage"]:
        words.append("stage %s" % f["stage"])
    if "manager_id" in f:
        words.append("manager %s" % (f["manager_id"] or "nobody"))
    return ", ".join(words)


def same_as_judged(case, stored, judged):
    """Mode record: what the ledger holds must be what the judge says, breach for breach."""
    def keys(fs):
        return sorted((f["rule"], f["arose_at"], f["task_id"] or 0, f["breached_at"], f["resolved_at"] or
                       dt.datetime.max.replace(tzinfo=dt.timezone.utc), f["resolution"] or "")
                      for f in fs if f["breached_at"] is not None)
    a, b = keys(stored), keys(judged)
    if a == b:
        return []
    out = ["the ledger differs from the judge:"]
    for k in a:
        if k not in b:
            out.append("  only in the ledger: %s broken at %s (arose at %s)" % (k[0], show(k[3], case), show(k[1], case)))
    for k in b:
        if k not in a:
            out.append("  only judged: %s broken at %s (arose at %s)" % (k[0], show(k[3], case), show(k[1], case)))
    return out


def run(cases, args):
    import psycopg2
    conn = psycopg2.connect("")
    conn.autocommit = False
    cur = conn.cursor()
    cur.execute("set local timezone = 'UTC'")
    loader = Loader(conn, args.mode, args.base, args.shuffle)
    failed_load = {}
    cur.execute("savepoint loading")
    try:
        loader.load(cases)
    except psycopg2.Error as e:
        print("# loading all cases at once failed, now one by one: %s" % str(e).strip().replace("\n", "\n# "))
        cur.execute("rollback to loading")
        for c in cases:
            cur.execute("savepoint loading")
            try:
                loader.load([c])
            except psycopg2.Error as e:
                cur.execute("rollback to loading")
                failed_load[c.number] = str(e).strip()
    alive = [c for c in cases if c.number not in failed_load]
    pairs = [(c, b[1]) for c in alive for b in c.blocks if b[0] == "judge"]
    found, failed = judge_all(conn, loader, pairs)

    stored, judged = {}, {}
    if args.mode == "record":
        cur.execute("select now()")
        now = cur.fetchone()[0]
        judged, failed_now = judge_all(conn, loader, [(c, c.known_until or now) for c in alive])
        failed.update(failed_now)
    elif any(b[0] == "ledger" for c in alive for b in c.blocks):
        for c in alive:
            if any(b[0] == "ledger" for b in c.blocks):
                cur.execute("savepoint rejudging")
                try:
                    cur.execute("select regcrm.rejudge(%s)", (loader.account(c),))
                except psycopg2.Error as e:
                    cur.execute("rollback to rejudging")
                    failed[c.number] = str(e).strip()
    if alive:
        stored = ledger_all(conn, loader, alive)

    print("1..%d" % len(cases))
    bad = 0
    for i, c in enumerate(cases, 1):
        diag = []
        if c.number in failed_load:
            diag.append("could not be loaded: " + failed_load[c.number])
        elif c.number in failed:
            diag.append("could not be judged: " + failed[c.number])
        else:
            for b in c.blocks:
                if b[0] == "judge":
                    diag += compare(c, b, found.get((c.number, b[1]), []))
                else:
                    diag += compare(c, b, stored.get(c.number, []))
            if args.mode == "record":
                diag += same_as_judged(c, stored.get(c.number, []),
                                       judged.get((c.number, c.known_until or now), []))
        bad += bool(diag)
        print("%s %d - %s" % ("not ok" if diag else "ok", i, c.name.replace("#", "")))
        if diag:
            print("#   %s" % c.where)
            for line in "\n".join(diag).split("\n"):
                print("#   %s" % line)
    if bad:
        print("# %d of %d cases failed" % (bad, len(cases)))
    if args.keep:
        conn.commit()
    else:
        conn.rollback()
    return 1 if bad else 0


def coverage(cases, rules):
    """Prints how many cases of each kind a rule has; returns the number of rules that lack a kind."""
    lacking = 0
    print("%-10s %5s %6s %5s" % ("rule", "kept", "broken", "edge"))
    for r in rules:
        n = {k: sum(1 for c in cases if r in c.codes and c.kind == k) for k in ("kept", "broken", "edge")}
        lack = [k for k in n if not n[k]]
        lacking += bool(lack)
        print("%-10s %5d %6d %5d%s" % (r, n["kept"], n["broken"], n["edge"],
                                       "   lacks " + ", ".join(lack) if lack else ""))
    print("%d rules, %d cases, %d of them general" % (len(rules), len(cases), sum(1 for c in cases if not c.codes)))
    return lacking


def rules_of_database():
    import psycopg2
    conn = psycopg2.connect("")
    cur = conn.cursor()
    cur.execute("select distinct code from regcrm.rule where regulation = 'idrive' and enabled order by code")
    rules = [r[0] for r in cur.fetchall()]
    conn.close()
    return rules


def main():
    p = argparse.ArgumentParser(description="Run the hand-worked cases against a database that has regcrm "
                                            "(connection from PGHOST, PGDATABASE and the like); prints TAP.")
    p.add_argument("files", nargs="*", help="case files; default: every .txt file of this folder")
    p.add_argument("--mode", choices=("off", "record"), default="off",
                   help="how the facts are loaded; record also compares the ledger with the judge")
    p.add_argument("--check", action="store_true", help="read the cases only; no database is needed")
    p.add_argument("--coverage", action="store_true",
                   help="count kept, broken and edge cases of each rule; with --check by the list in this program, "
                        "else by the rules in the database")
    p.add_argument("--only", metavar="TEXT", help="only cases whose name contains TEXT")
    p.add_argument("--shuffle", type=int, metavar="SEED", help="insert the rows of each table in a random order")
    p.add_argument("--base", type=int, default=0, metavar="N", help="account ids begin above N (default 0)")
    p.add_argument("--keep", action="store_true", help="commit what was loaded, to look at it afterwards")
    args = p.parse_args()

    cases, errors = [], []
    for path in args.files or sorted(glob.glob(os.path.join(HERE, "*.txt"))):
        try:
            c, e = parse_file(path)
        except OSError as e:
            sys.exit(str(e))
        cases += c
        errors += e
    seen = {}
    for c in cases:
        if c.name in seen:
            errors.append("%s:%d: a case of this name stands at %s already" % (c.path, c.line, seen[c.name]))
        seen.setdefault(c.name, c.where)
    if errors:
        for e in errors:
            print(e, file=sys.stderr)
        return 2
    for i, c in enumerate(cases, 1):
        c.number = i
    if args.only:
        cases = [c for c in cases if args.only in c.name]
    if not cases:
        print("no cases", file=sys.stderr)
        return 2
    status = 0
    if args.coverage:
        status = 1 if coverage(cases, RULES if args.check else rules_of_database()) else 0
    elif args.check:
        print("%d cases read: %s" % (len(cases), ", ".join(
            "%d %s" % (sum(1 for c in cases if (c.kind or "general") == k), k)
            for k in ("kept", "broken", "edge", "general"))))
    else:
        status = run(cases, args)
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
