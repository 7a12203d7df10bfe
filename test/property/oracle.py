"""A second judge, naive and slow, written from the contract's text alone.

It shares no line and no idea of order with the judge in C: where that one
sweeps once over a deal's facts, this one looks, for every rule by itself, at
all moments that could matter and asks what holds then.  oracle_test.py lets the
two judge the same random deals; where they differ, the contract decides.

Vocabulary: an *occurrence* is an event token happening at a moment, in one or
more visits; a *visit* is a stay in a stage; a *finding* is what regcrm.judge()
returns, as a tuple.  Times and lengths are microseconds (int).
"""
import bisect
import itertools
import re
from collections import namedtuple

from oracle_time import length_of, moment_of

Event = namedtuple("Event", "id at kind by_bot actor from_stage to_stage answered duration "
                   "scenario field value before source_id")
Task = namedtuple("Task", "id kind manager at by_bot due done deleted")
Deal = namedtuple("Deal", "id judged created deleted stage fields events tasks")
Rule = namedtuple("Rule", "code stage form event nth expect unless scope within by warn clock valid")
# step: of one instant first facts (0), then each move n: what ends with it (2n), what begins (2n + 1)
Occurrence = namedtuple("Occurrence", "at visits id task outsider step", defaults=(0,))
Visit = namedtuple("Visit", "stage start end move")
Finding = namedtuple("Finding", "rule task_id stage arose_at warn_at due_at met_at breached_at "
                     "resolved_at resolution state")

NEVER = 1 << 62
NOWHERE = object()


class Move:
    """A move that happened: slips taken back and moves to the same stage are none."""

    def __init__(self, at, came_from, to, event, begins, unobserved):
        self.at, self.came_from, self.to = at, came_from, to
        self.id = ("event", event.id) if event else ("begin", 0)
        self.by_bot = event.by_bot if event and not begins else False
        self.actor = event.actor if event else None
        self.begins, self.unobserved = begins, unobserved


class Account:
    """What binds all deals of an account: how its regulation, calendar and feeds stand."""

    def __init__(self, zone, calendar, known_from, known_until, feeds, outsiders, rules,
                 transitions, scenarios, redial, undo, min_talk):
        self.zone, self.calendar = zone, calendar
        self.known_from, self.known_until = known_from, known_until
        self.feeds = feeds              # None = all, else {feed: since}
        self.outsiders = outsiders
        self.rules = rules
        self.transitions = transitions  # {(from, to): [(valid, comment required)]}
        self.scenarios = scenarios      # {code: [(valid, outcome)]}
        self.redial, self.undo, self.min_talk = redial, undo, min_talk

    def later(self, at, length, clock):
        if clock == "business" and self.calendar:
            return self.calendar.add(at, length)
        return at + length

    def earlier(self, at, length, clock):
        if clock == "business" and self.calendar:
            return self.calendar.subtract(at, length)
        return at - length

    def connected(self, feed, at):
        # choose_scenario() is always there where amoCRM does not own the facts
        default = -NEVER if feed == "field:scenario" and self.known_until is None else NEVER
        return self.feeds is None or self.feeds.get(feed, default) <= at


def holds_at(valid, at):
    """Whether a moment is within a range: (lower, lower included, upper, upper included)."""
    lower, with_lower, upper, with_upper = valid
    if lower is not None and (at < lower or at == lower and not with_lower):
        return False
    return upper is None or at < upper or at == upper and with_upper


# ---- what feeds could show of a token ----

def shown(account, token, at):
    """Whether the connected feeds could show that this event or condition came about."""
    if token.startswith("!"):
        return True
    token = token.split("*")[0]
    name, _, rest = token.partition(":")
    on = lambda feed: account.connected(feed, at)
    if name in ("call_out", "call_in", "missed_call", "talk", "long_call", "unreached"):
        return on("calls")
    if name in ("message_out", "message_in", "message_by_hand", "bot_message"):
        return on("messages")
    if name in ("touch", "contact", "client_request"):
        return on("calls") or on("messages")
    if name in ("task", "no_task") or name.startswith("task_"):
        return on("tasks")
    if name in ("comment", "comment_where_required"):
        return on("comments")
    if name == "scenario":
        return on("field:scenario")
    if name == "scenario_matches":
        return on("field:scenario") and (on("calls") or on("messages"))
    if name in ("field", "moment", "passed", "ahead"):
        return on("field:" + rest)
    if name == "soon":
        return on("field:" + rest.split(":")[0])
    if name == "signed_and_paid":
        return on("field:signed_at") and on("field:paid_at")
    return True


def first_chain(moves, here, fits):
    """The first order in which each begins where the one before it ended, or None."""
    if not moves:
        return []
    for i, e in enumerate(moves):
        if fits(e, here):
            rest = first_chain(moves[:i] + moves[i + 1:], e.to_stage, fits)
            if rest is not None:
                return [e, *rest]
    return None


MOMENTS = ("meeting_at", "agreed_at", "signed_at", "paid_at", "lead_date", "return_on")


class Judge:
    """Everything known of one deal up to a moment."""

    def __init__(self, account, deal, as_of):
        self.account, self.deal = account, deal
        end = as_of
        if account.known_until is not None:
            end = min(end, account.known_until)
        self.deleted = deal.deleted if deal.deleted is not None and deal.deleted <= end else None
        self.end = self.deleted if self.deleted is not None else end
        self.born = deal.created
        self.memory = {}
        self.afterwards = False         # looked at when all moves of the instant are done
        self.tolerant = False           # while a tolerance of leave runs
        self.leaving = False            # looked at in the second of leaving, before the move
        self.findings = {}

    def judge(self):
        if self.born > self.end or not self.deal.judged:
            return []
        self.see_facts()
        known = self.see_moves()
        self.see_instants()
        for rule in self.account.rules:
            if not known and rule.form != "attest":
                continue
            getattr(self, "judge_" + rule.form)(rule)
        return list(self.findings.values())

    # ---- facts ----

    def see_facts(self):
        """Events and tasks up to the end; what came before the creation is at the creation."""
        born = self.born
        self.told = {e.id: e.at for e in self.deal.events}
        self.told_tasks = {("task", t.id): t.at for t in self.deal.tasks} \
            | {("task done", t.id): t.done for t in self.deal.tasks}
        every = sorted((e._replace(at=max(e.at, born)) for e in self.deal.events),
                       key=lambda e: (e.at, self.told[e.id], e.id))
        self.all_events = every
        self.events = [e for e in every if e.at <= self.end]
        self.tasks = []
        for task in self.deal.tasks:
            at = max(task.at, born)
            if at > self.end:
                continue
            done = NEVER if task.done is None else max(task.done, born)
            gone = NEVER if task.deleted is None else max(task.deleted, born)
            if task.deleted is not None and task.done is not None and task.deleted < task.done:
                done = NEVER            # closed only once
            self.tasks.append(task._replace(at=at, done=done, deleted=gone))
        self.tasks.sort(key=lambda t: (t.at, t.id))
        self.fields = {}
        names = {e.field for e in every if e.kind == "field"} | set(self.deal.fields)
        for name in names:
            self.fields[name] = self.history(name)

    def history(self, name):
        """[(at, value, event id, outsider, set now)]: what the field held since when."""
        events = [e for e in self.all_events if e.kind == "field" and e.field == name]
        if events:
            first = events[0].before
        else:
            first = self.deal.fields.get(name)
        rows = []
        value = None
        if name == "skip_task_check":   # a box not ticked is as empty
            events = [e._replace(value=None if e.value == "false" else e.value) for e in events]
            first = None if first == "false" else first
        if first is not None:
            rows.append((self.born, first, ("field", name), False, True))
            value = first
        for e in events:
            if e.at > self.end:
                break
            changed = e.value is not None and e.value != value
            rows.append((e.at, e.value, ("event", e.id), self.outside(e), changed))
            value = e.value
        return rows

    def outside(self, event):
        return event.actor in self.account.outsiders

    def value(self, name, at):
        held = None
        for when, value, *_ in self.fields.get(name, ()):
            if when > at:
                break
            held = value
        return held

    def moment(self, name, at):
        return moment_of(self.value(name, at), self.account.zone)

    # ---- moves and visits ----

    def see_moves(self):
        events = [e for e in self.all_events if e.kind == "stage"]
        seen = [e for e in events if e.at <= self.end]
        moves = []
        if not events:
            stood, started = self.deal.stage, True
            moves.append(Move(self.born, None, stood, None, True, False))
        else:
            stood, started = None, False
        for at, group in itertools.groupby(seen, key=lambda e: e.at):
            order, begins_in = self.chained(sorted(group, key=self.order), stood, started)
            for e in order:
                if not started:
                    started = True
                    if begins_in is NOWHERE:
                        moves.append(Move(at, None, e.to_stage, e, True, False))
                        stood = e.to_stage
                        continue
                    stood = begins_in
                    moves.append(Move(self.born, None, stood, None, True, False))
                odd = e.from_stage is not None and e.from_stage != stood
                if e.to_stage == stood:
                    continue
                moves.append(Move(at, stood, e.to_stage, e, False, odd))
                stood = e.to_stage
        if not moves:                   # the first event is yet to come
            first = [e for e in events if e.at == events[0].at]
            if any(e.from_stage is None for e in first):
                self.visits = []        # it has been in no stage yet
                return False
            stood = self.chained(sorted(first, key=self.order), None, False)[1]
            moves.append(Move(self.born, None, stood, None, True, False))
        self.moves = self.without_slips(moves)
        self.visits = []
        for i, move in enumerate(self.moves):
            end = self.moves[i + 1].at if i + 1 < len(self.moves) else NEVER
            self.visits.append(Visit(move.to, move.at, end, move))
        return True

    def order(self, e):
        return self.told[e.id], e.source_id is None, e.source_id or "", e.id

    @staticmethod
    def chained(group, stood, started):
        """Moves of one instant, each beginning where the one before it ended, and where the first begins."""
        fits = lambda e, here: e.from_stage is None or e.from_stage == here
        begins = not started and any(e.from_stage is None for e in group)
        starts = [stood] if started else [NOWHERE] if begins else [e.from_stage for e in group]
        for start in starts if len(group) <= 8 else ():
            order = first_chain(group, start, fits)
            if order and (started or begins or order[0].from_stage == start):
                return order, start
        # no order chains all of them: on as far as it goes, then the next as they come
        start = stood if started else NOWHERE if begins else next(
            (e.from_stage for e in group if sum((o.from_stage == e.from_stage) - (o.to_stage == e.from_stage)
                                                for o in group) > 0), group[0].from_stage)
        here, rest, order = start, list(group), []
        while rest:
            e = next((e for e in rest if fits(e, here)), rest[0])
            rest.remove(e)
            order.append(e)
            here = e.to_stage
        return order, start

    def without_slips(self, moves):
        moves = list(moves)
        i = 1
        while i + 1 < len(moves):
            a, b = moves[i], moves[i + 1]
            if not a.begins and b.to == a.came_from and b.at - a.at <= self.account.undo:
                del moves[i:i + 2]
                i = 1
            else:
                i += 1
        return moves

    def visits_of(self, at):
        """The visits that a fact of this moment belongs to."""
        found = []
        for i, v in enumerate(self.visits):
            if v.end == at or v.start < at < v.end or i == 0 and at == v.start:
                found.append(i)
        return tuple(found)

    def visit_begun(self, at):
        """The last visit that has begun by this moment."""
        return max((i for i, v in enumerate(self.visits) if v.start <= at), default=None)

    def visits_of_task(self, at):
        begun = self.visit_begun(at)
        return () if begun is None else (begun,)

    def see_instants(self):
        """Every moment at which something may change."""
        times = {self.born}
        times.update(e.at for e in self.events)
        for t in self.tasks:
            times.update((t.at, t.done, t.deleted))
        for name in self.fields:
            for _, value, *_ in self.fields[name]:
                moment = moment_of(value, self.account.zone)
                if moment is not None:
                    times.add(moment)
        self.instants = sorted(t for t in times if self.born <= t <= self.end)

    def instants_from(self, first, last, rule):
        """Moments from first to last (both included) at which a condition may change."""
        times = self.instants
        extra = set()
        for token in rule.expect + rule.unless:
            match = re.match(r"!?soon:([^:*]*):(.*)$", token)
            if match:
                for _, value, *_ in self.fields.get(match[1], ()):
                    moment = moment_of(value, self.account.zone)
                    if moment is not None:
                        extra.add(moment - length_of(match[2]) + 1)
        if extra:
            times = sorted(set(times) | extra)
        last = min(last, self.end)
        low = bisect.bisect_left(times, first)
        high = bisect.bisect_right(times, last)
        return times[low:high]

    # ---- event tokens ----

    def occurrences(self, token):
        if token not in self.memory:
            found = [o for o in self.happened(token) if o.at <= self.end]
            found.sort(key=lambda o: (o.at, o.step, self.first_told(o), o.id))
            self.memory[token] = found
        return self.memory[token]

    def first_told(self, o):
        """Orders what is simultaneous: what was so from the creation, then by when it was told of."""
        kind, number = o.id
        if kind in ("task", "task done"):
            return self.told_tasks[kind, number]
        return 0 if kind == "field" else self.told[number] if kind == "event" else o.at

    def of_events(self, test):
        return [Occurrence(e.at, self.visits_of(e.at), ("event", e.id), None, self.outside(e))
                for e in self.events if test(e)]

    def answered(self, e):
        if e.answered is not None:
            return e.answered
        return e.duration is not None and e.duration >= self.account.min_talk

    def happened(self, token):
        name, _, rest = token.partition(":")
        call = lambda e: e.kind in ("call_in", "call_out")
        if name == "enter" and not rest:
            return [Occurrence(v.start, (i,), v.move.id, None, self.by_outsider(v.move), 2 * i + 1)
                    for i, v in enumerate(self.visits) if not v.move.unobserved]
        if name in ("enter", "leave"):
            return [Occurrence(v.start, (max(0, i - 1),), v.move.id, None,
                               self.by_outsider(v.move), 2 * i)
                    for i, v in enumerate(self.visits)
                    if name == "leave" and i > 0
                    or name == "enter" and v.stage == rest and not v.move.unobserved]
        if name in ("call_out", "call_in", "message_in", "message_out", "comment"):
            return self.of_events(lambda e: e.kind == name)
        if name == "talk":
            return self.of_events(lambda e: call(e) and self.answered(e))
        if name == "long_call":
            length = length_of(rest)
            return self.of_events(lambda e: call(e) and e.duration is not None and e.duration >= length)
        if name == "missed_call":
            return self.missed_calls()
        if name == "message_by_hand":
            return self.of_events(lambda e: e.kind == "message_out" and not e.by_bot)
        if name == "bot_message":
            return self.of_events(lambda e: e.kind == "message_out" and e.by_bot)
        if name == "touch":
            return self.of_events(self.is_touch)
        if name == "contact":
            return self.of_events(self.is_contact)
        if name == "client_request":
            return self.of_events(self.is_request)
        if name == "scenario":
            return self.of_events(lambda e: e.kind == "scenario" and (not rest or e.scenario == rest))
        if name in ("task_added", "task_by_hand", "task_by_bot"):
            return [Occurrence(t.at, self.visits_of_task(t.at), ("task", t.id), t,
                               t.manager in self.account.outsiders and not t.by_bot)
                    for t in self.tasks
                    if (not rest or t.kind == rest)
                    and (name == "task_added" or t.by_bot == (name == "task_by_bot"))]
        if name == "task_done":
            return [Occurrence(t.done, self.visits_of(t.done), ("task done", t.id), t,
                               t.manager in self.account.outsiders)
                    for t in self.tasks if t.done < NEVER and (not rest or t.kind == rest)]
        if name == "bot_act":
            moved = [Occurrence(v.start, (i - 1,), v.move.id, None, self.by_outsider(v.move), 2 * i)
                     for i, v in enumerate(self.visits) if i > 0 and v.move.by_bot]
            return moved + self.of_events(lambda e: e.kind == "robot"
                                          or e.kind == "scenario" and e.by_bot)
        if name == "bot":
            return [o for part in ("bot_act", "bot_message", "task_by_bot")
                    for o in self.occurrences(part)]
        if name == "field":
            return self.field_set(rest)
        if name == "moment":
            return self.moments(rest)
        if name == "signed_and_paid":
            first = [[o for o in self.field_set(field)] for field in ("signed_at", "paid_at")]
            if not all(first):
                return []
            return [max((o[0] for o in first), key=lambda o: o.at)]
        if name == "activity":
            return self.activity()
        raise ValueError("unknown token " + token)

    def is_touch(self, e):
        if e.actor in self.account.outsiders:
            return False
        return e.kind == "call_out" or e.kind == "call_in" and self.answered(e) \
            or e.kind == "message_out" and not e.by_bot

    def is_contact(self, e):
        return e.kind in ("call_in", "call_out") and self.answered(e) \
            or e.kind in ("message_in", "visit")

    @staticmethod
    def is_request(e):
        return e.kind in ("call_in", "message_in", "request", "visit")

    def missed_calls(self):
        """Redials do not count until a contact; one of the same second lets that second count."""
        contacts = [e.at for e in self.events if self.is_contact(e)]
        counted, found = None, []
        for e in self.events:
            if e.kind != "call_out" or self.answered(e):
                continue
            if counted is not None and e.at - counted <= self.account.redial \
                    and not any(counted <= c <= e.at for c in contacts):
                continue
            counted = e.at
            found.append(e.id)
        return self.of_events(lambda e: e.id in found and e.kind == "call_out")

    def field_set(self, name):
        return [Occurrence(at, self.visits_of(at), id, None, outsider)
                for at, value, id, outsider, changed in self.fields.get(name, ()) if changed]

    def moments(self, name):
        """The instants a field held that came while it held them."""
        found = {}
        rows = self.fields.get(name, ())
        for i, (at, value, id, outsider, _) in enumerate(rows):
            moment = moment_of(value, self.account.zone)
            if moment is None or moment <= at or moment > self.end:
                continue
            until = rows[i + 1][0] if i + 1 < len(rows) else NEVER
            anew = any(changed for when, *_, changed in rows if when == moment)
            if until >= moment and not anew and moment_of(self.value(name, moment), self.account.zone) == moment:
                found[moment] = Occurrence(moment, self.visits_of(moment), ("moment", name), None, False)
        return list(found.values())

    def activity(self):
        found = {}
        names = [t for t in self.fields]
        for part in ("touch", "contact", "client_request", "scenario", "comment", "task_done", "enter",
                     *("field:" + n for n in names)):
            for o in self.occurrences(part):
                found[o.id] = o
        return list(found.values())

    # ---- conditions ----

    def holds(self, condition, form, scope, visit, moved_at, at):
        """Whether a condition holds at a moment, everything of that moment applied.

        visit: the visit the duty is about (for leave the one that ended, for enter the one
        that began); moved_at: that move.
        """
        if condition.startswith("!"):
            return not self.holds(condition[1:], form, scope, visit, moved_at, at)
        token, _, times = condition.partition("*")
        times = int(times) if times else 1
        name, _, rest = token.partition(":")
        if name in ("task", "no_task"):
            is_open = any(t.at <= at < min(t.done, t.deleted) and (not rest or t.kind == rest)
                          for t in self.tasks)
            return is_open == (name == "task")
        if token == "stage":
            if form == "enter" and (at > moved_at or self.afterwards) and not self.leaving or form == "leave" and self.tolerant:
                visit = self.visit_begun(at)
            return self.visits[visit].stage is not None
        if name == "field" and not (times > 1):
            return self.value(rest, at) is not None
        if name == "passed":
            moment = self.moment(rest, at)
            return moment is not None and moment <= at
        if name == "ahead":
            moment = self.moment(rest, at)
            return moment is not None and moment > at
        if name == "soon":
            field, _, length = rest.partition(":")
            moment = self.moment(field, at)
            return moment is not None and 0 < moment - at < length_of(length)
        if name == "visited":
            return self.visited(rest, form, visit, moved_at, at)
        if name == "moved_by_bot":
            return self.visits[visit].move.by_bot
        if name == "unreached":
            contacts = [o.at for o in self.occurrences("contact") if o.at <= at]
            return any(o.at <= at and not any(c >= o.at for c in contacts)
                       for o in self.occurrences("missed_call"))
        if name == "comment_where_required":
            return self.comment_where_required(form, visit, moved_at, at)
        if name == "scenario_matches":
            return self.scenario_matches(form, visit, at)
        return len(self.in_scope(token, form, scope, visit, moved_at, at)) >= times

    def in_scope(self, token, form, scope, visit, moved_at, at):
        """Occurrences so far, since the deal began or in the visit that counts."""
        limit = NEVER
        if not self.afterwards and not self.tolerant:
            # in the order of the moves of this instant: not what later ones do
            limit = NEVER if form == "always" and not self.leaving else 2 * visit + 2
            if form in ("enter", "flow") and not self.leaving:
                limit = 2 * visit if at == moved_at else NEVER
        so_far = [o for o in self.occurrences(token) if o.at < at or o.at == at and o.step <= limit]
        if scope in ("deal", "after"):
            return so_far
        if form in ("enter", "flow"):
            ended = max(0, visit - 1)
            if self.leaving:            # a task added then belongs to the visit that begins
                so_far = [o for o in so_far if o.at < at or visit in o.visits or ended in o.visits]
            # one that ends within its second is left by what the next move gives
            return [o for o in so_far if ended in o.visits or o.at > moved_at
                    or visit in o.visits and (o.task or self.leaving and o.step > 2 * visit + 1)]
        if form == "leave":
            return [o for o in so_far if visit in o.visits or o.at > moved_at
                    or self.tolerant and o.at == moved_at and max(o.visits, default=0) > visit]
        return [o for o in so_far if visit in o.visits]

    def visited(self, stage, form, visit, moved_at, at):
        last = visit
        if form == "enter" and (at > moved_at or self.afterwards) and not self.leaving:
            last = self.visit_begun(at)
        return any(v.stage == stage for v in self.visits[:last + 1])

    def comment_where_required(self, form, visit, moved_at, at):
        move = self.visits[visit].move if form != "leave" else self.visits[visit + 1].move
        if move.unobserved or move.came_from is None and not move.begins:
            return True
        asked = [required for valid, required in
                 self.account.transitions.get((move.came_from, move.to), ())
                 if holds_at(valid, move.at)]
        if not any(asked):
            return True
        if self.in_scope("comment", form, "visit", visit, moved_at, at):
            return True
        contacts = [o.at for o in self.occurrences("contact") if o.at <= at]
        return bool(contacts) and any(contacts[-1] <= o.at <= at for o in self.occurrences("comment"))

    def scenario_matches(self, form, visit, at):
        """The last scenario of the visit that counts against its last call, or the deal's contacts."""
        if form in ("enter", "flow"):
            visit = max(0, visit - 1)
        of_visit = lambda token: [o for o in self.occurrences(token) if o.at <= at and visit in o.visits]
        chosen = of_visit("scenario")
        if not chosen:
            return True
        last = next(e for e in self.events if ("event", e.id) == chosen[-1].id)
        rows = self.account.scenarios.get(last.scenario, ())
        outcome = [o for valid, o in rows if holds_at(valid, last.at)] or [o for _, o in rows][-1:]
        if outcome == ["missed"]:
            calls = sorted(of_visit("call_in") + of_visit("call_out"), key=lambda o: (o.at, o.id))
            return not calls or calls[-1].id not in {o.id for o in self.occurrences("talk")}
        if outcome == ["reached"]:
            return any(o.at <= at for o in self.occurrences("contact"))
        return True

    # ---- whether a duty arises ----

    def arises(self, rule, visit, moved_at, at):
        """In force, known, could be shown to be kept, and nothing keeps it from arising."""
        return self.in_force(rule, at) and not self.excused(rule, visit, moved_at, at)

    def in_force(self, rule, at):
        account = self.account
        if not holds_at(rule.valid, at):
            return False
        return not rule.expect or any(shown(account, token, at) for token in rule.expect)

    def excused(self, rule, visit, moved_at, at):
        return any(self.holds(c, rule.form, rule.scope, visit, moved_at, at) for c in rule.unless)

    def kept(self, rule, visit, moved_at, at):
        return any(self.holds(c, rule.form, rule.scope, visit, moved_at, at) for c in rule.expect)

    def find(self, rule, task, stage, arose, warn=None, due=None, met=None, breached=None,
             resolved=None, resolution=None, state=None):
        """One finding a rule, instant and task; a breached one stands before others."""
        if self.account.known_from is not None and arose < self.account.known_from:
            return
        task = task.id if task is not None else None
        key = (rule.code, arose, task)
        finding = Finding(rule.code, task, stage, arose, warn, due, met, breached, resolved,
                          resolution, state)
        old = self.findings.get(key)
        if old is None or rule.form != "flow" and (breached is not None or old.breached_at is None):
            self.findings[key] = finding

    def expects_move(self, rule):
        return any(t.partition(":")[0] == "enter" for t in rule.expect)

    # ---- the forms ----

    def judge_flow(self, rule):
        for visit, v in enumerate(self.visits):
            move = v.move
            if move.unobserved or move.to is None or not move.begins and move.came_from is None:
                continue
            if self.by_outsider(move) or rule.stage is not None and rule.stage != move.to:
                continue
            legal = any(holds_at(valid, move.at) for valid, _ in
                        self.account.transitions.get((move.came_from, move.to), ()))
            if not legal and self.arises(rule, visit, move.at, move.at):
                self.find(rule, None, move.to, move.at, breached=move.at, resolved=move.at,
                          resolution="moment", state="missed")

    def by_outsider(self, move):
        return move.actor in self.account.outsiders

    def judge_enter(self, rule):
        seen = {}
        for visit, v in enumerate(self.visits):
            if rule.stage is not None and v.stage != rule.stage:
                continue
            seen[v.stage] = seen.get(v.stage, 0) + 1
            if rule.nth is not None and seen[v.stage] != rule.nth:
                continue
            if v.move.unobserved or self.by_outsider(v.move):
                continue
            if self.arises(rule, visit, v.start, v.start):
                self.enter(rule, visit, v)

    def enter(self, rule, visit, v):
        moved = v.start
        warn = self.account.later(moved, rule.warn, rule.clock) if rule.warn else None
        pending = "warned" if warn is not None and warn <= self.end else "pending"
        lasting = rule.scope == "deal" or self.expects_move(rule)
        due = self.account.later(moved, rule.within, rule.clock) if rule.within else None
        breach = moved if due is None else due
        if due is None:
            if self.kept(rule, visit, moved, moved):
                return
        else:
            kept = self.kept(rule, visit, moved, moved)
            for at in self.instants_from(moved, min(due, v.end), rule):
                self.leaving = at == v.end
                kept = kept or self.kept(rule, visit, moved, at)
                self.leaving = False
                if kept:
                    self.find(rule, None, v.stage, moved, warn=warn, due=due, met=at, state="met")
                    return
            if v.end <= min(due, self.end) or self.deleted is not None and self.deleted <= due:
                self.find(rule, None, v.stage, moved, warn=warn, due=due, state="cancelled")
                return
            if due > self.end:
                self.find(rule, None, v.stage, moved, warn=warn, due=due, state=pending)
                return
        last = NEVER if lasting else v.end
        for at in self.instants_from(breach + (due is not None), last, rule):
            self.leaving, self.afterwards = at == last, lasting or at < last
            kept = self.kept(rule, visit, moved, at)
            self.leaving = self.afterwards = False
            if kept:
                self.find(rule, None, v.stage, moved, warn=warn, due=due, met=at, breached=breach,
                          resolved=at, resolution="met", state="late")
                return
        self.breach_open(rule, None, v.stage, moved, due, warn, breach, last)

    def breach_open(self, rule, task, stage, arose, due, warn, breach, last):
        """A breach that nothing cured: left by leaving (at last) or deletion, or still open."""
        left = last if last <= self.end else self.deleted
        self.find(rule, task, stage, arose, warn=warn, due=due, breached=breach, resolved=left,
                  resolution="left" if left is not None else None, state="missed")

    def judge_leave(self, rule):
        for visit, v in enumerate(self.visits[:-1]):
            move = self.visits[visit + 1].move
            if rule.stage is not None and v.stage != rule.stage:
                continue
            if move.unobserved or move.begins or self.by_outsider(move) \
                    or not self.arises(rule, visit, move.at, move.at):
                continue
            at = move.at
            if not rule.within:
                if not self.kept(rule, visit, at, at):
                    self.find(rule, None, v.stage, at, breached=at, resolved=at,
                              resolution="moment", state="missed")
                continue
            due = self.account.later(at, rule.within, rule.clock)
            warn = self.account.later(at, rule.warn, rule.clock) if rule.warn else None
            pending = "warned" if warn is not None and warn <= self.end else "pending"
            met = at if self.kept(rule, visit, at, at) else None
            self.tolerant = True
            if met is None:
                met = next((t for t in self.instants_from(at, due, rule)
                            if self.kept(rule, visit, at, t)), None)
            self.tolerant = False
            if met is not None:
                self.find(rule, None, v.stage, at, warn=warn, due=due, met=met, state="met")
            elif self.deleted is not None and self.deleted <= due:
                self.find(rule, None, v.stage, at, warn=warn, due=due, state="cancelled")
            elif due > self.end:
                self.find(rule, None, v.stage, at, warn=warn, due=due, state=pending)
            else:
                self.find(rule, None, v.stage, at, warn=warn, due=due, breached=due, resolved=due,
                          resolution="moment", state="missed")

    def judge_always(self, rule):
        if rule.stage is None:
            self.always(rule, None, self.visits[0].start, NEVER)
            return
        for visit, v in enumerate(self.visits):
            if v.stage == rule.stage and v.start < v.end:
                self.always(rule, visit, v.start, v.end)

    def always(self, rule, visit, start, end):
        """Gaps in which neither what is expected nor what excuses holds."""
        gap = None                      # (since, visit then)
        for at in self.instants_from(start, end, rule):
            here = self.visit_begun(at) if visit is None else visit
            if at >= end and gap is None:
                break
            self.leaving = at >= end
            kept = self.kept(rule, here, self.visits[here].start, at)
            excused = self.excused(rule, here, self.visits[here].start, at)
            self.leaving = False
            if at >= end:               # the second of leaving: only what was missing counts
                if kept:
                    self.gap(rule, *gap, at, "met")
                    gap = None
                break
            if not kept and not excused:
                if gap is None:
                    gap = (at, here)
                continue
            if gap is not None:
                self.gap(rule, *gap, at, "met" if kept else "excused")
                gap = None
        if gap is not None:
            self.gap(rule, *gap, end, "left")

    def gap(self, rule, since, visit, until, how):
        if not self.in_force(rule, since):
            return
        stage = self.visits[visit].stage
        due = self.account.later(since, rule.within, rule.clock) if rule.within else None
        breach = since if due is None else due
        warn = self.account.later(since, rule.warn, rule.clock) if rule.warn else None
        pending = "warned" if warn is not None and warn <= self.end else "pending"
        if how == "left" and until > self.end:
            until = self.deleted if self.deleted is not None else NEVER
        if due is not None and until <= due:
            state = "met" if how == "met" else "cancelled"
            self.find(rule, None, stage, since, warn=warn, due=due, met=until if how == "met" else None,
                      state=state)
        elif breach > self.end:
            self.find(rule, None, stage, since, warn=warn, due=due, state=pending)
        elif until == NEVER:
            self.find(rule, None, stage, since, warn=warn, due=due, breached=breach, state="missed")
        elif how == "left":
            self.find(rule, None, stage, since, warn=warn, due=due, breached=breach, resolved=until,
                      resolution="left", state="missed")
        else:
            self.find(rule, None, stage, since, warn=warn, due=due, met=until, breached=breach, resolved=until,
                      resolution="met", state="late")

    def judge_never(self, rule):
        for visit, at, o in self.triggers(rule):
            v = self.visits[visit]
            if o.outsider:
                continue
            if rule.within and rule.scope != "after" and at <= self.account.later(v.start, rule.within, rule.clock):
                continue
            if self.arises(rule, visit, at, at):
                self.find(rule, self.own_task(rule, o), v.stage, at, breached=at, resolved=at,
                          resolution="moment", state="missed")

    @staticmethod
    def own_task(rule, o):
        if rule.event.startswith("task_") or rule.event == "bot":
            return o.task
        return None

    def triggers(self, rule):
        """(visit, at, occurrence) of the rule's event in the visits it speaks of, the nth only."""
        entered = {}
        for visit, v in enumerate(self.visits):
            entered[v.stage] = entered.get(v.stage, 0) + 1
            if rule.scope == "after":
                if v.stage == rule.stage or not any(u.stage == rule.stage for u in self.visits[:visit]):
                    continue
            elif rule.stage is not None and v.stage != rule.stage:
                continue
            n = 0
            for o in self.occurrences(rule.event):
                if visit not in o.visits:
                    continue
                n += 1
                if rule.nth is not None:
                    if rule.event == "enter":
                        if entered[v.stage] != rule.nth:
                            continue
                    elif n != rule.nth:
                        continue
                yield visit, o.at, o

    # ---- within ----

    def judge_within(self, rule):
        for visit, triggers in itertools.groupby(self.triggers(rule), key=lambda t: t[0]):
            triggers = [(at, o) for _, at, o in triggers]
            if rule.by == "task_due":
                self.within_task_due(rule, visit, triggers)
            elif rule.by:
                self.within_by_field(rule, visit, triggers)
            else:
                self.within_plain(rule, visit, triggers)

    def answers(self, rule, visit, arose):
        """When the first expected event comes, at or after the duty arose."""
        v = self.visits[visit]
        times = []
        for token in rule.expect:
            for o in self.occurrences(token):
                if o.at < arose or o.at == arose and token == rule.event:
                    continue
                if rule.scope == "deal" or visit in o.visits or \
                        self.expects_move(rule) and o.at >= v.end and max(o.visits) > visit:
                    begun = o.id[0] == "task" and o.visits
                    times.append((o.at, 2 * o.visits[-1] + 1 if begun else o.step))
        first, step = min(times, default=(None, 0))
        # one that a later move of an instant brings comes after what the present visit holds of it
        present = visit if first is None else max(visit, min(self.visits_of(first), default=visit))
        self.answered_after = step > 2 * present + 2
        return first

    def run(self, rule, visit, task, arose, due, answer, cancelled=None):
        """Writes the finding of one duty; returns from when on a new one may arise."""
        v = self.visits[visit]
        lasting = rule.scope == "deal" or self.expects_move(rule)
        warn = None
        if rule.warn:
            warn = self.account.earlier(due, rule.warn, rule.clock) if rule.by \
                else self.account.later(arose, rule.warn, rule.clock)
        last = NEVER if lasting else v.end
        if answer is not None and answer > last:
            answer = None
        common = dict(warn=warn, due=due)
        if answer is not None and answer <= due and \
                (cancelled is None or answer + self.answered_after <= cancelled):
            self.find(rule, task, v.stage, arose, met=answer, state="met", **common)
            return answer + self.answered_after
        if cancelled is not None and cancelled <= min(last, due):
            self.find(rule, task, v.stage, arose, state="cancelled", **common)
            return cancelled
        if last <= min(due, self.end) or self.deleted is not None and self.deleted <= due:
            self.find(rule, task, v.stage, arose, state="cancelled", **common)
            return NEVER
        if due > self.end:
            state = "warned" if warn is not None and warn <= self.end else "pending"
            self.find(rule, task, v.stage, arose, state=state, **common)
            return NEVER
        if answer is not None:
            self.find(rule, task, v.stage, arose, met=answer, breached=due, resolved=answer,
                      resolution="met", state="late", **common)
            return answer + self.answered_after
        self.breach_open(rule, task, v.stage, arose, due, warn, due, last)
        return NEVER

    def within_plain(self, rule, visit, triggers):
        free = 0
        for at, together in itertools.groupby(triggers, key=lambda t: t[0]):
            if at < free or not self.arises(rule, visit, at, at):
                continue
            due = self.account.later(at, rule.within, rule.clock)
            answer = self.answers(rule, visit, at)
            tasks = {o.task and o.task.id: self.own_task(rule, o) for _, o in together}
            for task in tasks.values():
                free = max(self.run(rule, visit, task, at, due, answer), at + 1)

    def within_task_due(self, rule, visit, triggers):
        for at, o in triggers:
            if o.task.due <= o.task.at or o.task.due <= at or not self.arises(rule, visit, at, at):
                continue
            due = self.account.later(o.task.due, rule.within or 0, rule.clock)
            self.run(rule, visit, o.task, at, due, self.answers(rule, visit, at))

    def within_by_field(self, rule, visit, triggers):
        """Duties by a moment that a field holds, and that may move, go and come anew."""
        v = self.visits[visit]
        sets = [row[0] for last, row in itertools.pairwise([(0, None), *self.fields.get(rule.by, ())])
                if row[1] != last[1]]
        free = 0
        for at, o in triggers:
            if at < free:
                continue
            start = at
            while start is not None:
                moment = self.moment(rule.by, start)
                if moment is None or moment <= start:
                    start = next((t for t in sets if start < t <= v.end), None)
                    continue
                if not self.arises(rule, visit, start, start):
                    if start == at:
                        break
                    start = next((t for t in sets if start < t <= v.end), None)
                    continue
                answer = self.answers(rule, visit, start)
                due = self.account.later(moment, rule.within or 0, rule.clock)
                cancelled = None
                for t in sets:
                    if t <= start:
                        continue
                    if t > due or answer is not None and answer + self.answered_after <= t:
                        break
                    if not (rule.scope == "deal" or self.expects_move(rule)) and t > v.end:
                        break
                    moment = self.moment(rule.by, t)
                    if moment is None or moment <= t:
                        cancelled = t
                        break
                    due = self.account.later(moment, rule.within or 0, rule.clock)
                free = max(self.run(rule, visit, None, start, due, answer, cancelled),
                           start + 1)
                if cancelled is None or free != cancelled:
                    break
                start = cancelled

    def judge_attest(self, rule):
        verdicts = [e for e in self.events if e.kind == "verdict" and e.field == rule.code]
        for i, e in enumerate(verdicts):
            if e.value != "fail":
                continue
            visit = self.visit_begun(e.at) or 0
            if not self.arises(rule, visit, e.at, e.at):
                continue
            cured = next((p.at for p in verdicts[i + 1:] if p.value == "pass"), None)
            if any(p.value == "fail" and p.at == e.at for p in verdicts[i + 1:]):
                continue                # of one second the last word counts
            if cured is None:
                self.breach_open(rule, None, rule.stage, e.at, None, None, e.at, NEVER)
            else:
                self.find(rule, None, rule.stage, e.at, met=cured, breached=e.at, resolved=cured,
                          resolution="met", state="late")
