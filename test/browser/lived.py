"""What the simulated deals lived, and what the regulation says of it.

Reads the simulator's log of what happened (nothing of the warehouse), tells it as
the facts of the contract, and lets the naive judge of test/property (which shares
no line with the one in C) find the duties.  Times are unix seconds.
"""
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

TEST = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TEST / "amocrm"), str(TEST / "property")]

import idrive                                                   # noqa: E402
import oracle                                                   # noqa: E402
import oracle_time                                              # noqa: E402
import school                                                   # noqa: E402
from worktime import DAY, ZONE                                  # noqa: E402

MOSCOW = timezone(timedelta(seconds=ZONE))
STAGE_OF = {(school.SALES, status): code for code, (status, _) in school.STAGES.items()} | {(school.SALES, school.UNSORTED): "new"}
NAME_OF = {user.id: user.name for user in school.USERS}
CODE_OF = {name: code for code, name in school.SCENARIO_NAMES.items()}
FIELD_OF = {field.id: name for name, field in school.FIELDS.items()}
#: fields of the account -> columns of a deal
COLUMN = {"lost_reason": "reason", "nq_reason": "reason", **{name: name for name in (
    "lead_date", "pause_reason", "meeting_at", "return_on", "agreed_at", "signed_at", "paid_at", "skip_task_check")}}
BOT_AFTER, CROWD = 15, 5                                        # evidence that a message is the bot's
SECOND = oracle_time.SECOND


def local(moment):
    return datetime.fromtimestamp(moment, MOSCOW)


def day_of(moment):
    return local(moment).date()


def monday(moment):
    day = day_of(moment)
    return day - timedelta(days=day.weekday())


def worked(moment):
    """Working seconds since 1970."""
    days, second = divmod(moment + ZONE, DAY)
    return days * (idrive.CLOSES - idrive.OPENS) + min(max(second - idrive.OPENS, 0), idrive.CLOSES - idrive.OPENS)


def work_between(begin, end):
    return worked(end) - worked(begin)


class Lead:
    def __init__(self, thing):
        self.thing, self.id = thing, thing.id
        self.name = thing.fixed["name"]
        self.created = self.deleted = self.pipeline = self.status = None
        self.native = None              # amoCRM's own loss reason, which no event tells of
        self.held = {}                  # fields held from the start
        self.responsible = []           # (since, who)
        self.facts = []                 # dicts: at, kind and what it needs
        self.tasks = []
        self.duties = []

    def stage(self):
        return STAGE_OF.get((self.pipeline, self.status))

    def outcome(self):
        return idrive.OUTCOME.get(self.stage(), "open")

    def who(self, at=None):
        """Who is (was) responsible."""
        return [user for since, user in self.responsible if at is None or since <= at][-1]

    def of(self, *kinds):
        return [f for f in self.facts if f["kind"] in kinds]

    def moves(self):
        """[(at, from, to, by bot)], the first from nowhere."""
        return [(f["at"], f["from"], f["to"], f["bot"]) for f in self.of("stage")]

    def visits(self, slips=False):
        """[stage, entered, left or None], without slips of the mouse."""
        found = []
        for at, _, stage, _ in self.moves():
            if found and found[-1][0] == stage:
                continue                                        # another status of the same stage
            if found:
                found[-1][2] = at
            found.append([stage, at, None])
        return found if slips else [
            v for i, v in enumerate(found)
            if not (i and v[2] is not None and i + 1 < len(found) and found[i + 1][0] == found[i - 1][0]
                    and v[2] - v[1] <= idrive.UNDO)]

    def talked(self, f):
        return f["kind"] in ("call_in", "call_out") and (f["answered"] if f["answered"] is not None else f["seconds"] >= idrive.MIN_TALK)

    def touches(self):
        """Moments of the manager's acts towards the client."""
        return sorted(f["at"] for f in self.facts if f["kind"] == "call_out" or f["kind"] == "call_in" and self.talked(f)
                      or f["kind"] == "message_out" and not f["bot"])

    def contacts(self):
        return sorted(f["at"] for f in self.facts if self.talked(f) or f["kind"] == "message_in")


class Task:
    def __init__(self, thing, lead):
        self.id, self.lead, self.kind, self.at, self.by = thing.id, lead, thing.fixed["kind"], thing.fixed["at"], thing.fixed["by"]
        self.due = self.done = self.done_by = self.text = self.responsible = None
        self.pushes = []                # (at, by, from, to)


class Duty:
    """A finding of the judge, of one deal."""

    def __init__(self, lead, finding):
        second = lambda t: None if t is None else t // SECOND if t % SECOND == 0 else t / SECOND
        self.lead, self.rule, self.task = lead, finding.rule, finding.task_id
        self.book = idrive.BOOK[self.rule]
        self.stage = finding.stage
        self.arose, self.due, self.warn, self.met = map(second, (finding.arose_at, finding.due_at, finding.warn_at, finding.met_at))
        self.breached, self.resolved = second(finding.breached_at), second(finding.resolved_at)
        self.resolution = finding.resolution
        self.state = {"warned": "running", "pending": "running"}.get(finding.state, finding.state)
        self.warned = finding.state == "warned"
        self.severity = self.book["severity"]
        self.of_bot = self.book["of"] == "bot"
        self.manager = None if self.of_bot else lead.who(self.counts_at(lead))
        self.who = "Робот" if self.of_bot else NAME_OF[self.manager]

    def counts_at(self, lead):
        """The moment whose responsible user a duty counts for: broken, met, else ended; of one that runs, now."""
        if self.breached is not None:
            return self.breached
        if self.state == "met":
            return self.met
        if self.state == "cancelled":
            ends = [at for _, at, _ in lead.visits() if at > self.arose] + [lead.deleted or self.due, self.due]
            return min(ends)
        return None

    @property
    def open(self):
        return self.breached is not None and self.resolved is None


def field_text(name, field, shown, at):
    """What a field's event says it holds, as the contract stores it."""
    if not shown:
        return None
    text = shown[0]["custom_field_value"]["text"]
    if field.type == "date":
        return day_of(int(text)).isoformat()
    if field.type == "date_time":
        return datetime.fromtimestamp(int(text), timezone.utc).strftime("%Y-%m-%d %H:%M:%S+00")
    if field.type == "checkbox":
        if name == "skip_task_check":
            return "true"
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S+00")
    return text


def read(world, now):
    """{id: Lead}, as the log leaves them at `now`, and what the account's lists show of each kind."""
    leads, tasks = {}, {}
    of_contact = defaultdict(list)
    calls, silent = [], []
    for moment, _, thing, patch in world.log:
        if moment > now:
            break
        if thing.kind == "lead":
            read_lead(leads, of_contact, moment, thing, patch)
        elif thing.kind == "task":
            if thing not in tasks:
                lead = leads[thing.fixed["lead"]]
                tasks[thing] = Task(thing, lead)
                lead.tasks.append(tasks[thing])
            task = tasks[thing]
            task.due, task.text, task.responsible = patch.get("due", task.due), patch.get("text", task.text), patch.get("responsible", task.responsible)
            if patch.get("done"):
                task.done, task.done_by = moment, patch["updated_by"]
        elif thing.kind == "note":
            kind = {"common": "comment", "extended_service_message": "robot"}.get(thing.fixed["type"], thing.fixed["type"])
            if kind in ("call_in", "call_out"):
                calls.append((moment, kind, thing))
            elif thing.fixed["of"] in leads:
                leads[thing.fixed["of"]].facts.append({"at": moment, "kind": kind, "bot": kind == "robot"})
        elif thing.kind == "event":
            read_event(leads, tasks, silent, moment, thing)
    for moment, kind, note in calls:
        read_call(leads, of_contact, moment, kind, note)
    who_typed(leads, silent)
    for lead in leads.values():
        lead.facts.sort(key=lambda f: f["at"])
    return {lead.id: lead for lead in leads.values()}


def read_lead(leads, of_contact, moment, thing, patch):
    lead = leads.get(thing)
    if lead is None:
        lead = leads[thing] = Lead(thing)
        lead.created, lead.pipeline = patch["created_at"], patch["pipeline"]
        lead.held = {FIELD_OF[f]: v for f, v in patch.get("fields", {}).items()}
        of_contact[thing.fixed["contact"]].append(lead)
        lead.facts.append({"at": moment, "kind": "stage", "from": None, "to": STAGE_OF.get((lead.pipeline, patch["status"])),
                           "bot": False, "by": None, "first": True})
    lead.status = patch.get("status", lead.status)
    if "responsible" in patch:
        lead.responsible.append((moment, patch["responsible"]))
    if patch.get("deleted"):
        lead.deleted = moment
    if patch.get("loss_reason"):
        lead.native = patch["loss_reason"][1]


def read_event(leads, tasks, silent, moment, thing):
    type_, of, by = thing.fixed["type"], thing.fixed["of"], thing.fixed["by"]
    if type_ == "task_deadline_changed":
        tasks[of].pushes.append((moment, by, thing.fixed["before"][0]["task_deadline"]["timestamp"],
                                 thing.fixed["after"][0]["task_deadline"]["timestamp"]))
        return
    lead = leads.get(of)
    if lead is None:
        return
    fact = {"at": moment, "by": by or None, "bot": by == 0, "id": thing.id}
    if type_ == "lead_status_changed":
        spot = lambda side: STAGE_OF.get((thing.fixed[side][0]["lead_status"]["pipeline_id"], thing.fixed[side][0]["lead_status"]["id"]))
        fact.update({"kind": "stage", "from": spot("before"), "to": spot("after")})
    elif type_ == "incoming_chat_message":
        fact.update(kind="message_in", bot=False)
    elif type_ == "outgoing_chat_message":
        fact.update(kind="message_out", bot=False)
        if not by:
            silent.append((lead, fact))
    elif type_ == "robot_replied":
        fact.update(kind="robot", bot=True)
    elif type_ == "entity_responsible_changed":
        fact.update(kind="responsible")
    elif type_ in ("sale_field_changed", "name_field_changed"):
        name, key = ("price", "sale") if type_ == "sale_field_changed" else ("name", "name")
        text = lambda side: str(thing.fixed[side][0][f"{key}_field_value"][key]) if thing.fixed[side] else None
        fact.update(kind="field", field=name, value=text("after"), before=text("before"))
    elif type_.startswith("custom_field_"):
        name = FIELD_OF[int(type_.split("_")[2])]
        field = school.FIELDS[name]
        value = field_text(name, field, thing.fixed["after"], moment)
        before = field_text(name, field, thing.fixed["before"], None) if field.type != "checkbox" else None
        if name == "scenario" and value is not None:
            fact.update(kind="scenario", scenario=CODE_OF[value])
        else:
            fact.update(kind="field", field=COLUMN.get(name, name), value=value, before=before)
    else:
        return
    lead.facts.append(fact)


def read_call(leads, of_contact, moment, kind, note):
    of, params = note.fixed["of"], note.fixed["params"]
    if of.kind == "lead":
        lead = leads[of]
    else:                                   # a call at a contact is of the deal that was born last before it
        lead = ([x for x in of_contact[of] if x.created <= moment] or [None])[-1]
        if lead is None:
            return
    lead.facts.append({"at": moment, "kind": kind, "bot": False, "by": note.fixed["by"] or None,
                       "answered": params["call_status"] == 4 if "call_status" in params else None, "seconds": int(params["duration"])})


def who_typed(leads, silent):
    """What nobody signed is the bot's within 15 s after an incoming message, or in a crowd; else a person typed it in the phone."""
    crowd = Counter()
    for at in {(f["at"], lead.id) for lead, f in silent}:
        crowd[at[0]] += 1
    for lead, fact in silent:
        fact["bot"] = crowd[fact["at"]] >= CROWD or any(0 <= fact["at"] - f["at"] <= BOT_AFTER for f in lead.of("message_in"))


# ---- the judge ----

def account(leads, now):
    """The account as the judge wants to know it."""
    week = [(None, weekday, idrive.OPENS, idrive.CLOSES) for weekday in range(1, 8)]
    rules = []
    for code, r in sorted(idrive.BOOK.items()):
        rules.append(oracle.Rule(code, r["stage"], r["form"], r["event"] or None, r["nth"], r["expect"], r["unless"], r["scope"],
                                 r["within"] * SECOND, r["by"], r["warn"] * SECOND or None, "business" if r["business"] else "wall", idrive.ALWAYS))
    first = min((f["at"] for lead in leads.values() for f in lead.of("message_in", "message_out")), default=None)
    feeds = {"calls": -oracle.NEVER, "tasks": -oracle.NEVER, "comments": -oracle.NEVER,
             **{f"field:{name}": -oracle.NEVER for name in (*COLUMN.values(), "scenario")}}
    if first is not None:
        feeds["messages"] = first * SECOND
    return oracle.Account("Europe/Moscow", oracle_time.Calendar("Europe/Moscow", week, {}), None, now * SECOND, feeds, set(), rules,
                          idrive.MOVES, {c: [(idrive.ALWAYS, o)] for c, o in idrive.SCENARIO_OUTCOME.items()},
                          idrive.REDIAL * SECOND, idrive.UNDO * SECOND, idrive.MIN_TALK * SECOND)


def facts_for_judge(lead):
    events = []
    for n, f in enumerate(lead.facts):
        kind = f["kind"]
        if kind == "responsible" or kind == "field" and f["field"] == "scenario":
            continue
        events.append(oracle.Event(n, f["at"] * SECOND, kind, f["bot"], f.get("by"), f.get("from"), f.get("to"), f.get("answered"),
                                   f["seconds"] * SECOND if "seconds" in f else None, f.get("scenario"), f.get("field"), f.get("value"),
                                   f.get("before"), f.get("id")))
    tasks = [oracle.Task(t.id, t.kind, t.responsible, t.at * SECOND, t.by == 0, t.due * SECOND,
                         None if t.done is None else t.done * SECOND, None) for t in lead.tasks]
    fields = {COLUMN.get(n, n): day_of(v).isoformat() if school.FIELDS[n].type == "date" else str(v) for n, v in lead.held.items()}
    if lead.native:
        fields.setdefault("reason", lead.native)
    return oracle.Deal(lead.id, lead.pipeline == school.SALES, lead.created * SECOND,
                       None if lead.deleted is None else lead.deleted * SECOND, lead.stage(), fields, events, tasks)


def judge(leads, now):
    """Gives each lead its duties."""
    known = account(leads, now)
    for lead in leads.values():
        lead.duties = [Duty(lead, f) for f in oracle.Judge(known, facts_for_judge(lead), now * SECOND).judge()]
        lead.duties.sort(key=lambda d: (d.arose, d.rule, d.task or 0))
