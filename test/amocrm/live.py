"""What happens while the simulator runs: writes by the API, acts by order, rows touched between pages.

Nothing here is in the log; it is applied to what is shown, at the present moment, and leaves the events that amoCRM
would show of it.
"""

import json
from typing import Any

import school
from world import Shown, Thing, event_id

KINDS = {"leads": "lead", "contacts": "contact", "tasks": "task", "notes": "note"}


class Live:
    def __init__(self, shown: Shown):
        self.shown = shown
        self.added = 0

    def _new(self, kind: str, /, **fixed: Any) -> Thing:
        thing = Thing(kind, at=self.shown.now, **fixed)
        self.added += 1
        thing.id = (event_id(0, self.shown.now, -self.added) if kind == "event"
                    else {"note": 5_900_000, "task": 6_900_000}[kind] + 2 * self.added)
        return thing

    def _event(self, type_: str, of: Thing, by: int, after: Any = (), before: Any = ()) -> None:
        self.shown._apply(self._new("event", type=type_, of=of, by=by, after=list(after), before=list(before)), {})

    def add_note(self, lead: Thing, row: dict) -> Thing:
        note = self._new("note", type=row["note_type"], of=lead, by=row.get("created_by", 0), params=row["params"],
                         responsible=lead.shown["responsible"])
        self.shown._apply(note, {"updated_at": self.shown.now})
        self._event("common_note_added", lead, note.fixed["by"], [{"note": note}])
        return note

    def add_task(self, lead: Thing, row: dict) -> Thing:
        task = self._new("task", lead=lead, type=row.get("task_type_id", 1), by=0, kind="other")
        self.shown._apply(task, {"text": row["text"], "due": row["complete_till"], "updated_at": self.shown.now, "updated_by": 0,
                                 "responsible": row.get("responsible_user_id", lead.shown["responsible"]), "done": False,
                                 "result": None})
        self._event("task_added", task, 0)
        return task

    def change(self, lead: Thing, asked: dict, by: int) -> None:
        """A lead is moved; other columns are not looked at."""
        before = {"id": lead.shown["status"], "pipeline_id": lead.shown["pipeline"]}
        after = {"id": asked.get("status_id", before["id"]), "pipeline_id": asked.get("pipeline_id", before["pipeline_id"])}
        self.shown._apply(lead, {"status": after["id"], "pipeline": after["pipeline_id"], "updated_at": self.shown.now,
                                 "updated_by": by,
                                 "closed_at": self.shown.now if after["id"] in school.CLOSED_STATUSES else None})
        if after != before:
            self._event("lead_status_changed", lead, by, [{"lead_status": after}], [{"lead_status": before}])

    def touch(self, path: str, body: bytes) -> None:
        """The first and the last rows of a page that has just been served change: where they stood, others will stand."""
        entity = path.rsplit("/", 1)[-1]
        rows = json.loads(body or b"{}").get("_embedded", {}).get(entity, [])
        for row in rows[:2] + rows[-2:]:
            thing = self.shown.by_id[KINDS[entity]][row["id"]]
            self.shown._apply(thing, {"updated_at": self.shown.now - 6})
