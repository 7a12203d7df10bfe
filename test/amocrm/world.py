"""What happened, and what of it the API shows at a given moment.

The stories write a *log*: (moment, thing, what changes of it).  When all is told the log is put in time order,
things get their ids in order of appearance, and a `Shown` plays the log up to the simulated now.  Beside the log
the stories declare the *truth*: which deal broke which rule when, and which rule was kept to the very second.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Optional



#: rules that bind Salesbot: their breaches are nobody's
BOT_RULES = frozenset("""NEW-3 NEW-12 WRK-9 MISS-10 MISS-11 MISS-12N MISS-12W MISS-13 MISS-13B
                         CHAT-1 CHAT-2 CHAT-5 CHAT-6 DEC-5 DEF-3""".split())

FIRST_ID = {"contact": 8_100_000, "company": 7_300_000, "lead": 9_100_000, "task": 6_200_000, "note": 5_300_000, "talk": 5500}


class Thing:
    """A contact, company, lead, task, note, talk or event; `shown` is its state as of the simulated now."""

    __slots__ = ("kind", "id", "shown", "fixed")

    def __init__(self, kind: str, /, **fixed: Any):
        self.kind = kind
        self.id: Any = None
        self.fixed = fixed              # what never changes
        self.shown: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.kind} {self.id}>"


@dataclass
class Breach:
    lead: Thing
    rule: str
    at: int
    manager: Optional[int]
    why: str
    task: Optional[Thing] = None


@dataclass
class Kept:
    """A timed rule kept to the second."""
    lead: Thing
    rule: str
    due: int
    met: int
    why: str


class World:
    def __init__(self, seed: int, start: int, end: int, horizon: int):
        self.seed = seed
        self.start, self.end, self.horizon = start, end, horizon
        self.log: list[tuple[int, int, Thing, dict]] = []
        self.breaches: list[Breach] = []
        self.kept: list[Kept] = []
        self.told: list[tuple[Thing, str]] = []         # which story a deal lived

    def record(self, moment: int, thing: Thing, **patch: Any) -> None:
        self.log.append((moment, len(self.log), thing, patch))

    def event(self, moment: int, type_: str, thing: Thing, by: int, after: Any = (), before: Any = ()) -> None:
        happened = Thing("event", type=type_, of=thing, by=by, at=moment, after=list(after), before=list(before))
        self.record(moment, happened)

    def finish(self) -> None:
        """All is told: time order and ids."""
        self.log.sort(key=lambda change: change[:2])
        following = dict(FIRST_ID)
        for number, (moment, _, thing, _) in enumerate(self.log):
            if thing.id is not None:
                continue
            if thing.kind == "event":
                thing.id = event_id(self.seed, moment, number)
            else:
                thing.id = following[thing.kind]
                following[thing.kind] += 1 if thing.kind == "talk" else 2     # ids have holes


class Shown:
    """The account as the API shows it at `now`; time only goes forward."""

    KINDS = ("lead", "contact", "company", "task", "note", "event", "talk")

    def __init__(self, world: World, now: int):
        self.world = world
        self.now = now
        self.position = 0
        self.lists: dict[str, list[Thing]] = {kind: [] for kind in self.KINDS}
        self.by_id: dict[str, dict[Any, Thing]] = {kind: {} for kind in self.KINDS}
        self.tasks_of: dict[Thing, list[Thing]] = {}
        self.leads_of: dict[Thing, list[Thing]] = {}
        self.advance(now)

    def advance(self, now: int) -> None:
        self.now = now
        log = self.world.log
        while self.position < len(log) and log[self.position][0] <= now:
            self._apply(*log[self.position][2:])
            self.position += 1

    def _apply(self, thing: Thing, patch: dict) -> None:
        if thing.id not in self.by_id[thing.kind]:
            self.by_id[thing.kind][thing.id] = thing
            self.lists[thing.kind].append(thing)
            if thing.kind == "task":
                self.tasks_of.setdefault(thing.fixed["lead"], []).append(thing)
            elif thing.kind == "lead":
                self.leads_of.setdefault(thing.fixed["contact"], []).append(thing)
        for key, value in patch.items():
            if key == "fields":
                fields = thing.shown.setdefault("fields", {})
                for name, held in value.items():
                    if held is None:
                        fields.pop(name, None)
                    else:
                        fields[name] = held
            else:
                thing.shown[key] = value


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def event_id(seed: int, moment: int, number: int) -> str:
    """26 characters, the first ten of them the time; within a second the order is chance, as in life."""
    chance = int.from_bytes(hashlib.sha256(f"{seed}/event/{number}".encode()).digest()[:10], "big")
    value = (moment * 1000 + chance % 1000 << 80) | chance
    letters = []
    for _ in range(26):
        letters.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(letters))


