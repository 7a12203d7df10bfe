#!/usr/bin/python3
"""What the dashboards must show of the simulated account, told by the simulator itself.

The simulator's history is made anew from the header of its truth file (the same seed gives the same account) and
counted here, from the log of what happened and the breaches that the stories declared.  Nothing is read from the
database, and no rule is evaluated: a breach is one because its story says so.

usage: truth.py TRUTH.jsonl [AS_OF]      prints JSON; AS_OF = unix seconds up to which the warehouse knows
"""

import json
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "amocrm"))

import school                                                   # noqa: E402
from population import history                                  # noqa: E402
from worktime import CLOSE, DAY, OPEN, ZONE, midnight           # noqa: E402

MOSCOW = timezone(timedelta(seconds=ZONE))
STAGE_OF = {status: code for code, (status, _) in school.STAGES.items()} | {school.UNSORTED: "new"}
NAME_OF = {user.id: user.name for user in school.USERS}
OPEN_STAGES = [code for code in school.STAGES if code not in ("lost", "unqualified", "won")]
UNDO = 60                       # a move taken back within a minute did not happen
MIN_TALK = 10                   # an answered call without a status lasted so long


def local(moment):
    return datetime.fromtimestamp(moment, MOSCOW)


def monday(moment):
    day = local(moment).date()
    return (day - timedelta(days=day.weekday())).isoformat()


def work_between(begin, end):
    """Working seconds between two moments."""
    def worked(moment):
        return (moment + ZONE) // DAY * (CLOSE - OPEN) + min(max((moment - midnight(moment)) - OPEN, 0), CLOSE - OPEN)
    return worked(end) - worked(begin)


def quantile(values, share):
    """As percentile_cont does: between the two nearest."""
    values = sorted(values)
    if not values:
        return None
    place = (len(values) - 1) * share
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


class Lead:
    def __init__(self, thing):
        self.thing = thing
        self.id = thing.id
        self.created = None
        self.deleted = False
        self.status = None
        self.responsible = None
        self.moves = []                 # (moment, stage or None), the first is where it began
        self.touches = []               # moments of the managers' acts towards the client
        self.reasons = []               # (moment, field or "native", value)

    def stage(self):
        return STAGE_OF.get(self.status)

    def visits(self):
        """(stage, entered, left or None), without slips of the mouse."""
        found = []
        for at, stage in self.moves:
            if found and found[-1][0] == stage:
                continue                            # another status of the same stage
            if found:
                found[-1][2] = at
            found.append([stage, at, None])
        return [v for i, v in enumerate(found)
                if not (i and v[2] is not None and i + 1 < len(found) and found[i + 1][0] == found[i - 1][0]
                        and v[2] - v[1] <= UNDO)]


def read(world, now):
    """The leads of the sales pipeline as the log leaves them at `now`."""
    leads = {}
    of_contact = defaultdict(list)
    incoming = defaultdict(list)
    typed = []                                      # outgoing messages that nobody signed
    calls = []
    tasks = defaultdict(lambda: {"done": False, "lead": None})
    for moment, _, thing, patch in world.log:
        if moment > now:
            break
        if thing.kind == "lead":
            lead = leads.get(thing)
            if lead is None:
                lead = leads[thing] = Lead(thing)
                lead.created = patch["created_at"]
                lead.pipeline = patch["pipeline"]
                of_contact[thing.fixed["contact"]].append(lead)
            if "status" in patch:
                lead.status = patch["status"]
                lead.moves.append((moment, STAGE_OF.get(patch["status"])))
            if "responsible" in patch:
                lead.responsible = patch["responsible"]
            if "deleted" in patch:
                lead.deleted = patch["deleted"]
            if patch.get("loss_reason"):
                lead.reasons.append((moment, patch["loss_reason"][1]))
            for field in ("lost_reason", "nq_reason"):
                if school.FIELDS[field].id in patch.get("fields", {}):
                    lead.reasons.append((moment, patch["fields"][school.FIELDS[field].id]))
        elif thing.kind == "note" and thing.fixed["type"] in ("call_in", "call_out"):
            calls.append((moment, thing))
        elif thing.kind == "event" and thing.fixed["type"] == "incoming_chat_message":
            incoming[thing.fixed["of"]].append(moment)
        elif thing.kind == "event" and thing.fixed["type"] == "outgoing_chat_message":
            if thing.fixed["by"]:
                leads[thing.fixed["of"]].touches.append(moment)
            else:
                typed.append((moment, thing.fixed["of"]))
        elif thing.kind == "task":
            tasks[thing]["lead"] = thing.fixed["lead"]
            tasks[thing].update(patch)
    for moment, note in calls:
        of = note.fixed["of"]
        params = note.fixed["params"]
        answered = params["call_status"] == 4 if "call_status" in params else int(params["duration"]) >= MIN_TALK
        if note.fixed["type"] == "call_out" or answered:
            if of.kind == "lead":
                leads[of].touches.append(moment)
            else:
                # a call at a contact is of the deal that was born last before it
                for lead in [x for x in of_contact[of] if x.created <= moment][-1:]:
                    lead.touches.append(moment)
    # what nobody signed is the bot's within 15 s after an incoming message, else typed in the phone by a person
    for moment, of in typed:
        if not any(0 <= moment - before <= 15 for before in incoming[of]):
            leads[of].touches.append(moment)
    without = {lead.id for lead in leads.values()} - {t["lead"].id for t in tasks.values() if not t["done"]}
    return [lead for lead in leads.values()], without, tasks


def main():
    lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    meta = lines[0]["meta"]
    world = history(meta["seed"], meta["start"], meta["days"], meta["deals"])
    now = int(sys.argv[2]) if len(sys.argv) > 2 else meta["now"]
    breaches = [b for b in world.breaches if b.at <= now]
    declared = {(line["deal_id"], line["rule"], line["breached_at"]) for line in lines if "deal_id" in line}
    if {(b.lead.id, b.rule, b.at) for b in breaches} != {d for d in declared if d[2] <= now}:
        sys.exit("the history made here is not the one that the truth file tells")

    def who(breach):
        return NAME_OF[breach.manager] if breach.manager else "Робот"

    week = [b for b in breaches if b.at > now - 7 * DAY]
    before = [b for b in breaches if now - 14 * DAY < b.at <= now - 7 * DAY]
    of_managers = [b for b in breaches if b.manager]

    leads, without_task, tasks = read(world, now)
    sales = [lead for lead in leads if lead.pipeline == school.SALES and not lead.deleted
             and any(stage for _, stage in lead.moves)]
    visits = [(lead, *visit) for lead in sales for visit in lead.visits() if visit[0]]
    answered = {lead.id: (max(min(lead.touches), lead.created) if lead.touches else None) for lead in sales}
    response = {lead.id: work_between(lead.created, answered[lead.id]) for lead in sales if answered[lead.id]}

    waiting = [lead for lead in sales if not answered[lead.id] and lead.stage() not in ("lost", "unqualified", "won")]

    def stage_name(code):
        return school.STAGES[code][1] if code != "won" else "Договор"

    # every visit counts here, of deleted deals too: the view of the norms asks only how long it took
    finished = defaultdict(list)
    for lead in leads:
        if lead.pipeline == school.SALES:
            for stage, entered, left in lead.visits():
                if stage and left:
                    finished[stage].append(left - entered)

    hours = defaultdict(list)
    for lead in sales:
        hours[local(lead.created).hour].append(response.get(lead.id))

    out = {
        "as_of": now,
        "now": meta["now"],
        "week": {
            "violations": len(week),
            "violations_before": len(before),
            "deals": len({b.lead.id for b in week}),
            "of_bot": sum(1 for b in week if not b.manager),
            "by_rule": Counter(b.rule for b in week),
            "by_rule_before": Counter(b.rule for b in before),
            "who_rule": {f"{name}|{rule}": count for (name, rule), count in Counter((who(b), b.rule) for b in week).items()},
            "who_rule_before": {f"{name}|{rule}": count for (name, rule), count in Counter((who(b), b.rule) for b in before).items()},
            "who_rule_deals": {f"{name}|{rule}": len({b.lead.id for b in week if who(b) == name and b.rule == rule})
                               for name, rule in {(who(b), b.rule) for b in week}},
        },
        "weeks": {f"{w}|{rule}": n for (w, rule), n in Counter((monday(b.at), b.rule) for b in breaches).items()},
        "weeks_of_managers": {f"{w}|{rule}": n for (w, rule), n in Counter((monday(b.at), b.rule) for b in of_managers).items()},
        "who_weeks": {f"{w}|{name}|{rule}": n for (w, name, rule), n in Counter((monday(b.at), who(b), b.rule) for b in breaches).items()},
        "managers": {
            "by_manager_rule": {f"{NAME_OF[m]}|{rule}": n for (m, rule), n in Counter((b.manager, b.rule) for b in of_managers).items()},
            "by_rule": Counter(b.rule for b in of_managers),
            "by_rule_deals": {rule: len({b.lead.id for b in of_managers if b.rule == rule}) for rule in {b.rule for b in of_managers}},
        },
        "rules": Counter(b.rule for b in breaches),
        "deals_broken": {str(lead_id): n for lead_id, n in Counter(b.lead.id for b in breaches).items()},
        "funnel": {
            "deals": len(sales),
            "reached": {stage_name(s): len({lead.id for lead, stage, *_ in visits if stage == s}) for s in school.STAGES},
            "now_here": {stage_name(s): sum(1 for lead in sales if lead.stage() == s) for s in school.STAGES},
            "won_after": {stage_name(s): len({lead.id for lead, stage, *_ in visits if stage == s and lead.stage() == "won"})
                          for s in school.STAGES},
            "in_work": sum(1 for lead in sales if lead.stage() in OPEN_STAGES),
            "won": sum(1 for lead in sales if lead.stage() == "won"),
            "lost": sum(1 for lead in sales if lead.stage() in ("lost", "unqualified")),
        },
        "norms": {stage_name(s): {"finished": len(finished[s]), "median": quantile(finished[s], .5), "p90": quantile(finished[s], .9)}
                  for s in OPEN_STAGES},
        "response": {
            "deals": len(sales),
            "touched": len(response),
            "untouched": len(sales) - len(response),
            "median": quantile(response.values(), .5),
            "p90": quantile(response.values(), .9),
            "within_15": sum(1 for seconds in response.values() if seconds <= 900),
            # one that nobody touched counts while it is open and its fifteen minutes are over
            "counted_15": len(response) + sum(1 for lead in waiting if work_between(lead.created, now) > 900),
            "waiting": len(waiting),
            "spread": {name: sum(1 for seconds in response.values() if above < seconds <= upto) for name, above, upto in (
                ("до 5 мин", -1, 300), ("5–10 мин", 300, 600), ("10–15 мин", 600, 900), ("15–30 мин", 900, 1800),
                ("30–60 мин", 1800, 3600), ("1–3 ч", 3600, 10800), ("дольше 3 ч", 10800, 1e12))},
            "by_hour": {str(hour): {"deals": len(known), "median": quantile([x for x in known if x is not None], .5)}
                        for hour, known in hours.items()},
            "by_manager": {NAME_OF[m]: n for m, n in Counter(lead.responsible for lead in sales).items()},
        },
        "risk": {
            "open_deals": sum(1 for lead in sales if lead.stage() in OPEN_STAGES or lead.stage() is None),
            "without_task": sum(1 for lead in sales if lead.stage() in OPEN_STAGES and lead.id in without_task),
        },
        "stories": {str(lead.id): {"moves": len(lead.moves) - 1, "created": local(lead.created).strftime("%Y-%m-%d %H:%M:%S")}
                    for lead in leads},
    }
    json.dump(out, sys.stdout, ensure_ascii=False)


main()
