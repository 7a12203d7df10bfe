"""The regulation's rules, written down once more: what the truth of the dashboards is judged by.

Nothing here is read from the warehouse or from ext/: a figure on a page is right
when two transcriptions of the regulation, two judges and two ways from the facts
to them come to the same.  In one table, so that a reader can lay it beside the
regulation's text.

    code | form | event | expect (one of) | unless | scope | within / by (warn) | basis | severity | whose duty

Stages by the code's prefix, unless the form names another; "b" behind a time =
of the account's working hours; basis: s stated, f figure assumed, d derived;
m = the manager's duty, b = the robot's.
"""
import re
from collections import defaultdict

RULES = """
FLOW | flow |  |  |  |  |  | s | major | m
NEW-1 | within | enter → | touch, enter:unqualified |  | deal | 15 min b (10 min b) | s | critical | m
NEW-2 | leave |  | scenario | visited:messaging | visit | 1 min | s | major | m
NEW-2M | never | scenario, 2nd |  |  |  |  | s | info | m
NEW-3 | always (any stage) |  | stage |  |  | 0 | s | info | b
NEW-4 | always |  | task |  |  | 15 min b | f | major | m
NEW-5 | leave |  | comment_where_required |  | visit | 1 min | d | minor | m
NEW-6 | attest |  |  |  |  |  | s | minor | m
NEW-7 | never | long_call:15min |  |  |  |  | s | minor | m
NEW-7W | never | long_call:10min |  | long_call:15min | visit |  | s | info | m
NEW-8 | leave |  | field:lead_date |  |  | 1 min | s | minor | m
NEW-9 | within | enter → | leave |  |  | 9 h b (8 h b) | f | minor | m
NEW-10 | attest |  |  |  |  |  | d | info | m
NEW-12 | enter |  | task:process_request | visited:messaging |  | 5 min | f | minor | b
NEW-13 | never | task_by_hand |  | visited:messaging |  |  | s | minor | m
WRK-1 | enter |  | contact |  | deal | 1 min | s | major | m
WRK-2 | within | contact → | scenario | visited:messaging |  | 1 h b | f | major | m
WRK-2L | leave |  | scenario | visited:messaging | visit | 1 min | s | major | m
WRK-4 | always |  | task |  |  | 15 min b | f | major | m
WRK-5 | leave |  | comment_where_required |  | visit | 1 min | d | minor | m
WRK-6 | within | enter → | leave, comment |  |  | 9 h b | f | minor | m
WRK-7 | leave |  | scenario_matches |  | visit |  | s | major | m
WRK-8 | attest |  |  |  |  |  | d | info | m
WRK-9 | enter |  | task:process_request | visited:messaging |  | 5 min | f | minor | b
WRK-10 | never | task_by_hand |  | visited:messaging |  |  | s | minor | m
MISS-1 | enter, 1st |  | message_by_hand |  | visit | 30 min b | f | critical | m
MISS-2 | attest |  |  |  |  |  | s | minor | m
MISS-3 | enter |  | unreached |  |  | 1 min | s | major | m
MISS-5 | leave |  | contact, scenario:no_answer*3 | visited:messaging | visit |  | d | minor | m
MISS-6 | within | missed_call → | scenario | visited:messaging |  | 1 h b | f | major | m
MISS-6T | within | talk → | scenario | visited:messaging | deal | 1 h b | f | minor | m
MISS-7 | within | task_added:callback → | call_out, contact |  | visit | by task_due + 1 h b (15 min) | f | major | m
MISS-8 | within | message_in → | enter:messaging, enter:in_work, enter:deciding, enter:meeting, enter:contract, enter:deferred |  |  | 1 h b | f | critical | m
MISS-9 | within | talk → | leave |  |  | 1 h b | f | major | m
MISS-10 | within | scenario:no_answer, 3rd → | enter:unqualified | visited:messaging |  | 5 min | f | minor | b
MISS-11 | enter (`unqualified`) |  | field:reason | !moved_by_bot |  | 5 min | f | minor | b
MISS-12N | within (`new`) | scenario:no_answer → | enter:no_answer | visited:messaging |  | 5 min | f | minor | b
MISS-12W | within (`in_work`) | scenario:no_answer → | enter:no_answer | visited:messaging |  | 5 min | f | minor | b
MISS-13 | enter |  | task:callback | visited:messaging |  | 5 min | f | minor | b
MISS-13B | within | scenario:no_answer → | task_added:callback, enter:unqualified | visited:messaging |  | 5 min | f | minor | b
MISS-14 | never | task_by_hand |  | visited:messaging |  |  | s | minor | m
MISS-15 | always |  | task |  |  | 15 min b | d | major | m
CHAT-1 | never | bot_act |  |  |  |  | s | major | b
CHAT-2 | never | bot_message |  |  |  |  | s | major | b
CHAT-3 | within | enter → | leave |  | visit | 72 h (48 h) | s | critical | m
CHAT-4 | attest |  |  |  |  |  | s | minor | m
CHAT-5 | never | task_by_bot |  |  |  |  | s | minor | b
CHAT-6 | never | bot |  |  | after |  | s | major | b
CHAT-7 | leave |  | comment |  | visit | 1 min | d | info | m
CHAT-8 | enter |  | contact |  | deal | 1 min | s | major | m
CHAT-9 | within | message_in → | touch |  | visit | 9 h b | d | minor | m
CHAT-9E | within | enter → | touch |  | visit | 9 h b | d | minor | m
CHAT-10 | never | scenario |  |  |  |  | s | major | m
CHAT-11 | never | scenario |  |  | after |  | s | major | m
DEC-1 | enter |  | contact |  | deal | 1 min | s | major | m
DEC-2 | attest |  |  |  |  |  | s | minor | m
DEC-3 | always |  | task |  |  | 5 min | f | critical | m
DEC-4 | within | task_added → | touch, contact |  | visit | by task_due + 1 h b (1 h) | f | major | m
DEC-5 | never | bot_message |  | visited:messaging |  |  | s | minor | b
DEC-6 | enter |  | field:pause_reason, comment |  | visit | 15 min | d | minor | m
DEC-8 | within | enter → | leave |  |  | 14 days | f | info | m
MEET-1 | always |  | field:meeting_at |  |  | 1 min | s | critical | m
MEET-2 | always |  | task:meeting_control, task_done:meeting_control | passed:meeting_at | visit | 5 min | f | critical | m
MEET-4 | within | enter → | touch, contact | soon:meeting_at:3h | visit | by meeting_at (2 h) | s | major | m
MEET-5 | within | moment:meeting_at → | leave, field:meeting_at |  | visit | 9 h b | f | major | m
MEET-5E | within | enter → | leave, field:meeting_at | ahead:meeting_at | visit | 9 h b | f | major | m
MEET-6 | attest |  |  |  |  |  | s | minor | m
MEET-7 | enter |  | contact |  | deal | 1 min | d | major | m
ONC-1 | enter |  | field:agreed_at, scenario, comment |  | visit | 1 min | d | minor | m
ONC-2 | always |  | task:contract_control | signed_and_paid | deal | 5 min | f | critical | m
ONC-3 | attest |  |  |  |  |  | s | minor | m
ONC-4 | within | activity → | activity, leave |  | visit | 27 h b (18 h b) | f | major | m
ONC-5 | within | signed_and_paid → | enter:won |  |  | 9 h b | f | critical | m
ONC-6 | within | enter → | message_out, field:signed_at |  | visit | 9 h b | d | info | m
ONC-7 | enter |  | contact |  | deal | 1 min | d | major | m
DEF-1 | attest |  |  |  |  |  | s | minor | m
DEF-2 | always |  | field:return_on |  |  | 1 min | s | critical | m
DEF-2P | enter |  | ahead:return_on |  |  | 1 min | d | minor | m
DEF-3 | never | task_by_bot |  | visited:messaging |  |  | s | minor | b
DEF-4 | always |  | task |  |  | 5 min | f | critical | m
DEF-5 | within | moment:return_on → | touch, contact |  | visit | 9 h b | f | critical | m
DEF-6 | attest |  |  |  |  |  | d | info | m
DEF-7 | enter |  | contact |  | deal | 1 min | d | major | m
DEF-8 | never | field:return_on |  | contact | visit | 1 h | d | minor | m
LOST-1 | attest |  |  |  |  |  | s | minor | m
LOST-2 | enter |  | field:reason |  |  | 1 min | f | critical | m
LOST-3 | never | touch |  | client_request | visit | 5 min | s | major | m
LOST-4 | always |  | no_task |  |  | 5 min | f | major | m
LOST-5 | leave |  | client_request |  | visit |  | s | critical | m
LOST-6 | enter |  | contact |  | deal | 1 min | d | major | m
NQ-1 | attest |  |  |  |  |  | s | minor | m
NQ-2 | enter |  | field:reason | moved_by_bot |  | 1 min | f | critical | m
NQ-3 | never | touch |  | client_request | visit | 5 min | s | major | m
NQ-4 | always |  | no_task |  |  | 5 min | f | major | m
NQ-5 | leave |  | client_request |  | visit |  | s | critical | m
NQ-6 | enter |  | contact | visited:no_answer | deal | 1 min | d | minor | m
WON-1 | enter |  | field:signed_at |  |  | 1 min | s | critical | m
WON-2 | enter |  | field:paid_at |  |  | 1 min | s | critical | m
WON-3 | attest |  |  |  |  |  | s | minor | m
WON-4 | enter |  | visited:meeting, visited:contract |  |  |  | d | major | m
WON-5 | always |  | no_task |  |  | 5 min | f | major | m
WON-6 | always |  | field:skip_task_check |  |  | 5 min | f | minor | m
WON-7 | never | touch |  | client_request | visit | 5 min | s | major | m
WON-8 | attest |  |  |  |  |  | s | minor | m
"""

#: may a deal go there?  from (beginning: -) -> to; any letter is yes
GRAPH = """
        new in_work no_answer messaging deciding meeting contract deferred lost unqualified won
-           +   .       .         .         .        .       .        .        .    .           .
new         .   +       +         +         +        +       +        +        +    +           .
in_work     .   .       +         +         +        +       +        +        +    +           .
no_answer   .   +       .         +         +        +       +        +        +    +           .
messaging   .   +       .         .         +        +       +        +        +    +           .
deciding    .   .       .         +         .        +       +        +        +    +           +
meeting     .   .       .         +         +        .       +        +        +    +           +
contract    .   .       .         +         +        +       .        +        +    +           +
deferred    .   +       .         +         +        +       +        .        +    +           .
lost        +   +       .         +         +        +       +        +        .    .           .
unqualified +   +       .         +         +        +       +        +        .    .           .
won         .   .       .         .         .        .       .        .        .    .           .
"""

STAGE = {"NEW": "new", "WRK": "in_work", "MISS": "no_answer", "CHAT": "messaging", "DEC": "deciding", "MEET": "meeting",
         "ONC": "contract", "DEF": "deferred", "LOST": "lost", "NQ": "unqualified", "WON": "won", "FLOW": None}
#: the regulation's stages in order, and how each ends a deal
STAGES = ("new", "in_work", "no_answer", "messaging", "deciding", "meeting", "contract", "deferred", "lost", "unqualified", "won")
OUTCOME = {"lost": "lost", "unqualified": "lost", "won": "won"}
COMMENT_REQUIRED_INTO = {"deferred"}
SCENARIO_OUTCOME = {"no_answer": "missed", "unqualified": "any", **dict.fromkeys(
    ("in_work", "messaging", "deciding", "meeting", "contract", "deferred", "lost"), "reached")}
REDIAL, UNDO, MIN_TALK = 30 * 60, 60, 10                       # seconds
OPENS, CLOSES = 9 * 3600, 20 * 3600                             # every day

ALWAYS = (None, False, None, False)
UNIT = {"min": 60, "h": 3600, "days": 86400}


def seconds(text):
    """Seconds of "15 min b", and whether they are working time."""
    match = re.fullmatch(r"(\d+) (min|h|days)( b)?", text)
    return int(match[1]) * UNIT[match[2]], bool(match[3])


def read_rules():
    """{code: what the table says}; times in seconds."""
    rules = {}
    for line in RULES.strip().splitlines():
        code, form, event, expect, unless, scope, within, basis, severity, whose = (c.strip() for c in line.split("|"))
        stage = STAGE[code.split("-")[0]]
        nth = None
        match = re.fullmatch(r"(\w+)(?:, (\d)\w\w)?(?: \((.+)\))?", form)
        form = match[1]
        if match[2]:
            nth = int(match[2])
        if match[3]:
            stage = None if match[3] == "any stage" else match[3].strip("`")
        match = re.fullmatch(r"(.*?)(?:, (\d)\w\w)?(?: →)?", event)
        event = match[1]
        if match[2]:
            nth = int(match[2])
        match = re.fullmatch(r"(.*?)(?:\s*\((.*)\))?", within)
        within, warn = match[1], match[2]
        by = None
        if within.startswith("by "):
            by, _, within = within[3:].partition(" + ")
        length, business = seconds(within) if within not in ("", "0") else (0, False)
        told = seconds(warn) if warn else (0, False)
        rules[code] = {"code": code, "stage": stage, "form": form, "event": event, "nth": nth,
                       "expect": [t.strip() for t in expect.split(",") if t.strip()],
                       "unless": [t.strip() for t in unless.split(",") if t.strip()],
                       "scope": scope or ("deal" if form in ("enter", "leave") else "visit"),
                       "within": length, "by": by, "warn": told[0], "business": business or told[1],
                       "basis": {"s": "stated", "f": "assumed", "d": "derived"}[basis], "severity": severity,
                       "of": {"m": "manager", "b": "bot"}[whose]}
    return rules


def read_graph():
    """{(from, to): [(when in force, whether a comment is required)]}"""
    lines = GRAPH.strip().splitlines()
    names = lines[0].split()
    legal = defaultdict(list)
    for line in lines[1:]:
        start, *marks = line.split()
        for to, mark in zip(names, marks):
            if mark == "+":
                legal[None if start == "-" else start, to].append((ALWAYS, start != "-" and to in COMMENT_REQUIRED_INTO))
    return legal


BOOK = read_rules()
MOVES = read_graph()
