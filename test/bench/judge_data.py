#!/usr/bin/python3
"""Facts for test/bench/judge: the built-in regulation and deals of the simulated amoCRM account, as the judge takes them.

    judge_data.py [--deals 2000] [--days 30] [--seed 1]        one record a line, fields parted by tabs, - = null

Nothing here judges.  The regulation is read out of ext/30_regulation.sql; deals are those of test/amocrm, each log entry
turned into the fact that the sync would make of it.
"""
import argparse
import ast
import bisect
import re
import sys
import zlib
from datetime import date, datetime, timezone
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/amocrm"))
sys.dont_write_bytecode = True

import school                                                   # noqa: E402
from population import history                                  # noqa: E402
from worktime import DAY, ZONE, midnight                        # noqa: E402

EPOCH = int(datetime(2000, 1, 1, tzinfo=timezone.utc).timestamp())
US = 10**6
STAGE = {status: code for code, (status, _) in school.STAGES.items()} | {school.UNSORTED: "new"}
FIELD = {field.id: {"lost_reason": "reason", "nq_reason": "reason"}.get(name, name) for name, field in school.FIELDS.items()}
SCENARIO = {name: code for code, name in school.SCENARIO_NAMES.items()}
MIN_TALK = 10


def show(*fields):
    print(*("-" if field is None else field for field in fields), sep="\t")


# ---- the regulation ----

def length(text):
    """An interval of the script in microseconds."""
    if text is None:
        return None
    number, _, unit = text.partition(" ")
    return int(number) * {"": 1, "second": 1, "minute": 60, "hour": 3600, "day": DAY}[unit.rstrip("s")] * US


def rows(script, begin, end):
    """The rows of a VALUES list between two marks."""
    part = script[script.index(begin):]
    part = part[part.index("VALUES") + 6:part.index(end)]
    part = re.sub(r"\bNULL\b", "None", part.replace("''", "’"))
    return ast.literal_eval("[" + part.strip() + "]")


def regulation():
    script = (TOP / "ext/30_regulation.sql").read_text()
    for row in rows(script, "INSERT INTO regcrm.stage_def", "ON CONFLICT"):
        show("stage", row[0])
    for begin, to, *_ in rows(script, "INSERT INTO regcrm.transition", ") AS t("):
        show("transition", begin, to, int(to == "deferred"))
    for code, _, outcome in rows(script, "INSERT INTO regcrm.scenario", ") AS s("):
        show("scenario", code, outcome)
    for code, stage, form, event, nth, expect, unless, scope, within, by, warn, clock, *_ in rows(
            script, "INSERT INTO regcrm.rule", ") AS r("):
        show("rule", code, stage, form, event, nth, expect.strip("{}") or None, unless.strip("{}") or None, scope,
             length(within), by, length(warn), clock)


# ---- facts ----

class Facts:
    """The facts of each lead, out of the account's log."""

    def __init__(self, world):
        self.world = world
        self.of = {}                # lead -> facts
        self.lead_of = {}           # contact -> its lead
        self.born, self.gone, self.manager = {}, {}, {}
        self.received = {}          # lead -> when the client wrote
        for moment, _, thing, patch in world.log:
            if moment > world.end:
                break
            getattr(self, "see_" + thing.kind, lambda *_: None)(moment, thing, patch)

    def add(self, lead, moment, order, kind, flags, *more):
        if lead in self.born:
            self.of[lead].append(((moment, *order), (moment, order[1], kind, flags, *more)))

    def see_lead(self, moment, lead, patch):
        if lead not in self.born:
            self.born[lead], self.manager[lead] = moment, patch["responsible"]
            self.of[lead], self.received[lead] = [], []
            self.lead_of[lead.fixed["contact"]] = lead
            self.add(lead, moment, (0, 0), "move", "", None, STAGE.get(patch["status"]))
        if patch.get("deleted"):
            self.gone[lead] = moment

    def see_note(self, moment, note, patch):
        lead = self.lead_of.get(note.fixed["of"], note.fixed["of"])
        type_, params = note.fixed["type"], note.fixed["params"]
        order = (0, note.id)
        if type_ in ("call_in", "call_out"):
            seconds = int(params["duration"])
            answered = params["call_status"] == 4 if "call_status" in params else seconds >= MIN_TALK
            self.add(lead, moment, order, type_, "a" if answered else "", seconds * US)
        elif type_ == "common":
            self.add(lead, moment, order, "comment", "")
        else:
            self.add(lead, moment, order, "robot", "b")

    def see_task(self, moment, task, patch):
        """The latest due moment counts; what was added and closed in one second, in this order."""
        if "due" in patch and "text" not in patch:
            task.fixed["first_due"] = patch["due"]
        if "text" in patch:
            self.task(moment, task, "task_added", "b" if task.fixed["by"] == 0 else "")
        elif patch.get("done"):
            self.task(moment, task, "task_done", "")

    def task(self, moment, task, kind, flags):
        self.add(task.fixed["lead"], moment, (1, task.id), kind, flags, task.fixed["kind"], task)

    def see_event(self, moment, event, patch):
        type_, thing, by = event.fixed["type"], event.fixed["of"], event.fixed["by"]
        bot, order = "b" if by == 0 else "", (0, zlib.crc32(event.id.encode()))
        if thing.kind != "lead":
            return
        after, before = event.fixed["after"], event.fixed["before"]
        if type_ == "lead_status_changed":
            came, went = before[0]["lead_status"], after[0]["lead_status"]
            stage = lambda s: STAGE.get(s["id"]) if s["pipeline_id"] == school.SALES else None
            self.add(thing, moment, order, "move", bot, stage(came) or "?", stage(went) or "?")
        elif type_ == "entity_responsible_changed":
            self.add(thing, moment, order, "responsible", bot, after[0]["responsible_user"]["id"])
        elif type_ == "incoming_chat_message":
            self.received.setdefault(thing, []).append(moment)
            self.add(thing, moment, order, "message_in", "")
        elif type_ == "outgoing_chat_message":
            at = self.received.get(thing, [])
            answer = bool(at) and moment - at[bisect.bisect(at, moment) - 1] <= 15
            self.add(thing, moment, order, "message_out", bot if answer else "")
        elif type_ == "robot_replied":
            self.add(thing, moment, order, "robot", "b")
        elif match := re.match(r"custom_field_(\d+)_value_changed", type_):
            self.field(thing, moment, order, bot, FIELD.get(int(match[1]), match[1]),
                       after[0]["custom_field_value"]["text"] if after else None)

    def field(self, lead, moment, order, bot, name, text):
        if name == "scenario" and text is not None:
            return self.add(lead, moment, order, "scenario", bot, SCENARIO[text])
        held = None
        if text is not None and name in ("meeting_at", "signed_at"):
            held = int(text)
        elif text is not None and name in ("lead_date", "return_on"):
            held = midnight(int(text))
        elif text is not None and name in ("agreed_at", "paid_at"):
            held = moment
        value = None if text is None else zlib.crc32(text.encode()) or 1
        self.add(lead, moment, order, "field", bot + ("h" if text is not None else ""), name, value,
                 None if held is None else (held - EPOCH) * US)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deals", type=int, default=2000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    regulation()
    start = (date(2026, 3, 2) - date(1970, 1, 1)).days * DAY - ZONE
    world = history(options.seed, start, options.days, options.deals)
    facts = Facts(world)
    for lead, happened in facts.of.items():
        gone = facts.gone.get(lead)
        show("deal", lead.id, (facts.born[lead] - EPOCH) * US, None if gone is None else (gone - EPOCH) * US,
             facts.manager[lead], (world.end - EPOCH) * US, len(happened))
        for _, (moment, number, kind, flags, *more) in sorted(happened, key=lambda fact: fact[0]):
            more = [(value.fixed["first_due"] - EPOCH) * US if hasattr(value, "fixed") else value for value in more]
            show("fact", (moment - EPOCH) * US, number, kind, flags, *more)


if __name__ == "__main__":
    main()
