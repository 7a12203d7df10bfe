"""A deal and the verbs by which a story is told: it calls, it writes, the bot adds a task, the manager moves it.

Every verb happens at the deal's own time `t` and moves it on, so that no two acts of a deal share a second; a verb
given `at` happens then and leaves `t` alone.  No verb knows a rule.
"""

from random import Random
from typing import Any, Optional

import school
from school import FIELDS, STAGES, User
from words import CLIENTS, COMMENTS, LEAD_NAMES
from world import Breach, Kept, Thing, World, BOT_RULES
from worktime import add_work, is_open, midnight, next_open

BOT = 0


class Deal:
    def __init__(self, world: World, rng: Random, manager: User, born: int):
        self.world, self.rng, self.manager = world, rng, manager
        self.born = self.t = born
        self.stage: Optional[str] = None
        self.status = 0
        self.entered = born
        self.visited: list[str] = []
        self.fields: dict[str, Any] = {}
        self.open: list[Thing] = []                 # open tasks, oldest first
        self.channel = "form"
        self.native_loss = True                     # may amoCRM's own loss reason be used?
        self.contact = Thing("contact", name=rng.choice(CLIENTS), phone=f"+7999{rng.randrange(10**7):07d}")
        self.lead = Thing("lead", contact=self.contact, name=rng.choice(LEAD_NAMES), born=born,
                          price=rng.choice((None, 0, 28000, 35000, 45000)))
        self.talk: Optional[Thing] = None
        self.responsible: list[tuple[int, int]] = []
        self.last_call_missed, self.last_call = False, 0
        self.why = ""

    # ------------------------------------------------------------------------ time

    def _when(self, at: Optional[int]) -> int:
        if at is not None:
            return at
        self.t += 1
        return self.t - 1

    def at(self, moment: int) -> None:
        """Go on at exactly this moment."""
        if moment < self.t:
            raise ValueError(f"the story is already past {moment} by {self.t - moment} s")
        self.t = moment

    def pause(self, least: int, most: int) -> None:
        self.t += self.rng.randint(least, most)

    def work(self, least: int, most: int) -> None:
        """Let working time pass; a manager comes back only in working hours."""
        self.t = next_open(add_work(self.t, self.rng.randint(least, most)))

    def working(self) -> None:
        """Wait for working hours."""
        if not is_open(self.t):
            self.t = next_open(self.t) + self.rng.randint(5, 400)

    @property
    def chatted(self) -> bool:
        """Has it been in correspondence?  From then on the bot keeps out and the manager works by hand."""
        return "messaging" in self.visited

    # ------------------------------------------------------------------------ the lead

    def create(self, *, stage: str = "new", unsorted: bool = False, by: int = BOT, source: int = 0, channel: str = "form",
               prefilled: tuple = (), status: Optional[int] = None, pipeline: int = school.SALES,
               distributor: Optional[User] = None) -> None:
        """The lead appears.  `prefilled` fields it holds from the start, without an event."""
        moment = self._when(None)
        self.channel, self.stage, self.entered = channel, stage, moment
        self.visited.append(stage)
        held = {}
        for name in prefilled:
            self.fields[name] = held[FIELDS[name].id] = self._prefill(name, moment)
        owner = distributor or self.manager
        status = status or (school.UNSORTED if unsorted else STAGES[stage][0])
        self.world.record(moment, self.contact, created_at=moment, updated_at=moment, created_by=by, responsible=owner.id)
        self.world.event(moment, "contact_added", self.contact, by, self._ghost())
        self.world.record(moment, self.lead, created_at=moment, updated_at=moment, created_by=by, updated_by=by,
                          responsible=owner.id, status=status, pipeline=pipeline, source=source or None, fields=held,
                          closed_at=None, loss_reason=None, deleted=False, tags=self.rng.choices(
                              ((), (school.TAGS[0],), (school.TAGS[1], school.TAGS[2])), (6, 2, 1))[0])
        self.world.event(moment, "lead_added", self.lead, by, self._ghost())
        self.responsible.append((moment, owner.id))
        self.status = status

    def _prefill(self, name: str, moment: int) -> Any:
        return {"lead_date": moment, "category": "B", "branch": "Центр", "utm_source": "yandex", "score": "7",
                "novelty": "след", "extras": "Автомат"}[name]

    def move(self, stage: str, by: Optional[int] = None, at: Optional[int] = None) -> int:
        """Into another stage of the regulation."""
        moment = self.move_status(STAGES[stage][0], by, at)
        self.stage, self.entered = stage, moment
        self.visited.append(stage)
        return moment

    def move_status(self, status: int, by: Optional[int] = None, at: Optional[int] = None, *,
                    pipeline: int = school.SALES) -> int:
        moment = self._when(at)
        by = self.manager.id if by is None else by
        closed = moment if status in school.CLOSED_STATUSES else None
        self.world.record(moment, self.lead, status=status, closed_at=closed, updated_at=moment, updated_by=by)
        self.world.event(moment, "lead_status_changed", self.lead, by,
                         [{"lead_status": {"id": status, "pipeline_id": pipeline}}],
                         [{"lead_status": {"id": self.status, "pipeline_id": pipeline}}])
        self.status = status
        return moment

    def accept(self, by: Optional[int] = None) -> None:
        """Out of «Неразобранное»: another status, the same stage."""
        self.move_status(STAGES["new"][0], by)

    def move_unmapped(self) -> int:
        moment = self.move_status(school.UNMAPPED)
        self.stage, self.entered = None, moment
        return moment

    def hand_over(self, to: User, by: Optional[int] = None) -> None:
        moment = self._when(None)
        by = school.CHIEF.id if by is None else by
        self.world.record(moment, self.lead, responsible=to.id, updated_at=moment, updated_by=by)
        self.world.event(moment, "entity_responsible_changed", self.lead, by,
                         [{"responsible_user": {"id": to.id}}],
                         [{"responsible_user": {"id": self.responsible[-1][1]}}])
        self.responsible.append((moment, to.id))
        self.manager = to

    def delete(self) -> None:
        moment = self._when(None)
        self.world.record(moment, self.lead, deleted=True, updated_at=moment, updated_by=school.CHIEF.id)
        self.world.event(moment, "lead_deleted", self.lead, school.CHIEF.id)

    def loss_reason(self, at: Optional[int] = None) -> None:
        """amoCRM's own reason, chosen in the window that closes a deal: no event tells of it."""
        reason = self.rng.choice(school.LOSS_REASONS)
        self.fields["lost_reason"] = reason[1]
        self.world.record(self._when(at), self.lead, loss_reason=reason)

    # ------------------------------------------------------------------------ fields

    def set(self, name: str, value: Any, by: Optional[int] = None, at: Optional[int] = None) -> int:
        """A field gets a value (None: is emptied)."""
        moment = self._when(at)
        by = self.manager.id if by is None else by
        field, before = FIELDS[name], self.fields.get(name)
        self.world.record(moment, self.lead, fields={field.id: value}, updated_at=moment, updated_by=by)
        self.world.event(moment, f"custom_field_{field.id}_value_changed", self.lead, by,
                         _field_value(field, value), _field_value(field, before))
        if value is None:
            self.fields.pop(name, None)
        else:
            self.fields[name] = value
        return moment

    def has(self, name: str) -> bool:
        return name in self.fields

    def scenario(self, code: str, by: Optional[int] = None, at: Optional[int] = None, *, bot_clears: bool = True) -> int:
        """A scenario is chosen; Salesbot reads the field and empties it for the next time."""
        moment = self.set("scenario", school.SCENARIO_NAMES[code], by, at)
        if bot_clears:
            self.set("scenario", None, BOT, None if at is None else at + 1)
        return moment

    # ------------------------------------------------------------------------ calls, messages, notes

    def _ghost(self) -> list:
        """A note that an event names and no list shows."""
        return [{"note": {"id": 4_000_000 + self.rng.randrange(10**6)}}]

    def _note(self, moment: int, type_: str, by: int, params: dict, of: Thing) -> Thing:
        note = Thing("note", type=type_, of=of, by=by, params=params, responsible=self.manager.id, at=moment)
        self.world.record(moment, note, updated_at=moment)
        return note

    def _call(self, out: bool, answered: bool, seconds: Optional[int], at: Optional[int], on_contact: Optional[bool],
              bare: Optional[bool]) -> int:
        rng = self.rng
        moment = self._when(at)
        length = seconds if seconds is not None else rng.randint(40, 480) if answered else rng.choice((0, 0, 0, 12, 27))
        bare = rng.random() < .3 if bare is None else bare
        if bare and seconds is None and not answered:
            length = rng.choice((0, 0, 0, 7))               # no status: too short to be a talk
        params = {"uniq": f"{rng.getrandbits(48):012x}", "duration": length if rng.random() < .9 else str(length),
                  "source": "Mango", "link": f"https://pbx.example/{rng.getrandbits(32):08x}.mp3" if length else None,
                  "phone": self.contact.fixed["phone"],
                  "call_responsible": rng.choice((self.manager.id, str(self.manager.id)))}
        if not bare:
            params["call_status"] = 4 if answered else rng.choice((3, 6, 6, 7))
            params["call_result"] = "Поговорили" if answered else rng.choice(("Не дозвонились", None))
        if on_contact is None:
            on_contact = self.stage not in ("lost", "unqualified", "won", None) and rng.random() < .25
        by = self.manager.id if rng.random() < .93 else 0       # some exchanges sign as nobody
        note = self._note(moment, "call_out" if out else "call_in", by, params, self.contact if on_contact else self.lead)
        self.world.event(moment, "outgoing_call" if out else "incoming_call", note.fixed["of"], by, [{"note": note}])
        self.last_call_missed, self.last_call = not answered, moment
        if at is None:
            self.t += length + (0 if answered else rng.randint(15, 30))
        return moment

    def call_out(self, answered: bool = True, seconds: Optional[int] = None, at: Optional[int] = None, *,
                 on_contact: Optional[bool] = None, bare: Optional[bool] = None) -> int:
        return self._call(True, answered, seconds, at, on_contact, bare)

    def call_in(self, answered: bool = True, seconds: Optional[int] = None, at: Optional[int] = None, *,
                on_contact: Optional[bool] = None, bare: Optional[bool] = None) -> int:
        return self._call(False, answered, seconds, at, on_contact, bare)

    def _message(self, type_: str, by: int, at: Optional[int]) -> int:
        moment = self._when(at)
        if self.talk is None:
            self.talk = Thing("talk", lead=self.lead, contact=self.contact, at=moment,
                              origin=self.rng.choice(("waba", "waba", "telegram")), chat=_uuid(self.rng))
            self.world.record(moment, self.talk, updated_at=moment, open=True)
            self.world.event(moment, "talk_created", self.lead, 0, [{"talk": {"id": self.talk}}])
        self.world.record(moment, self.talk, updated_at=moment)
        self.world.event(moment, type_, self.lead, by, [{"message": {
            "id": _uuid(self.rng), "origin": self.talk.fixed["origin"], "talk_id": self.talk}}])
        return moment

    def message_in(self, at: Optional[int] = None) -> int:
        return self._message("incoming_chat_message", 0, at)

    def message_out(self, at: Optional[int] = None, by: Optional[int] = None) -> int:
        """By hand; `by` = 0 is one typed in the phone's own messenger, or the bot's."""
        return self._message("outgoing_chat_message", self.manager.id if by is None else by, at)

    def comment(self, at: Optional[int] = None, text: Optional[str] = None) -> int:
        moment = self._when(at)
        note = self._note(moment, "common", self.manager.id, {"text": text or self.rng.choice(COMMENTS)}, self.lead)
        self.world.event(moment, "common_note_added", self.lead, self.manager.id, [{"note": note}])
        return moment

    def robot_replied(self) -> int:
        moment = self._when(None)
        self.world.event(moment, "robot_replied", self.lead, 0, [{"helpbot": {"id": 33}}])
        return moment

    def service_note(self, service: str = "Salesbot", text: str = "Бот «Первый контакт» запущен") -> int:
        moment = self._when(None)
        note = self._note(moment, "extended_service_message", 0, {"service": service, "text": text}, self.lead)
        self.world.event(moment, "service_note_added", self.lead, 0, [{"note": note}])
        return moment

    def noise(self, type_: str, by: int = 0, after: Any = (), before: Any = ()) -> None:
        """An event that means nothing to the regulation, or to anyone."""
        self.world.event(self._when(None), type_, self.lead, by, after, before)

    # ------------------------------------------------------------------------ tasks

    def task(self, kind: str, due: int, by: Optional[int] = None, at: Optional[int] = None) -> Thing:
        moment = self._when(at)
        by = self.manager.id if by is None else by
        type_, texts = school.TASKS[kind]
        added = Thing("task", lead=self.lead, type=type_, by=by, at=moment, kind=kind)
        self.world.record(moment, added, text=self.rng.choice(texts), due=due, updated_at=moment, updated_by=by,
                          responsible=self.manager.id, done=False, result=None)
        self.world.event(moment, "task_added", added, by)
        self.open.append(added)
        added.fixed["first_due"] = due
        return added

    def done(self, task: Thing, by: Optional[int] = None, at: Optional[int] = None) -> int:
        moment = self._when(at)
        by = self.manager.id if by is None else by
        result = {"text": self.rng.choice(("Готово", "Договорились", "ок 👍"))} if by and self.rng.random() < .5 else []
        self.world.record(moment, task, done=True, result=result, updated_at=moment, updated_by=by)
        self.world.event(moment, "task_completed", task, by)
        if result:
            self.world.event(moment, "task_result_added", task, by, self._ghost())
        self.open.remove(task)
        return moment

    def put_off(self, task: Thing, due: int) -> int:
        """The manager moves a task's due moment."""
        moment = self._when(None)
        before, task.fixed["first_due"] = task.fixed["first_due"], due
        self.world.record(moment, task, due=due, updated_at=moment, updated_by=self.manager.id)
        self.world.event(moment, "task_deadline_changed", task, self.manager.id,
                         [{"task_deadline": {"timestamp": due}}], [{"task_deadline": {"timestamp": before}}])
        return moment

    def open_task(self, kind: str) -> Optional[Thing]:
        return next((task for task in self.open if task.fixed["kind"] == kind), None)

    def due(self, task: Thing) -> int:
        return task.fixed["first_due"]

    # ------------------------------------------------------------------------ the truth

    def broken(self, rule: str, at: int, task: Optional[Thing] = None, why: str = "") -> None:
        """The story decides: here this rule is broken, at this moment."""
        holder = None
        if rule not in BOT_RULES:
            holder = [user for moment, user in self.responsible if moment <= at][-1]
        self.world.breaches.append(Breach(self.lead, rule, at, holder, why or self.why, task))

    def kept(self, rule: str, due: int, met: int) -> None:
        """The story decides: this rule is kept, but only just."""
        self.world.kept.append(Kept(self.lead, rule, due, met, self.why))

    def edge(self, late: int, rule: str, due: int, task: Optional[Thing] = None) -> None:
        """Kept at the due second, or broken by one."""
        if late:
            self.broken(rule, due, task)
        else:
            self.kept(rule, due, due)


def _field_value(field: school.Field, value: Any) -> list:
    """How an event shows a field's value."""
    if value is None:
        return []
    shown = {"field_id": field.id, "field_type": school.FIELD_TYPE_NUMBER[field.type], "enum_id": None, "text": str(value)}
    if field.type == "select":
        shown["enum_id"] = field.enum(value)
    elif field.type == "checkbox":
        shown["text"] = "1"
    elif field.type == "date":
        shown["text"] = str(midnight(value))
    return [{"custom_field_value": shown}]


def _uuid(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "a" + digits[17:20], digits[20:]))
