#!/usr/bin/python3
"""A large amoCRM account that is computed, not stored: for measuring first loads.

usage: firehose.py PORT_FILE [LEADS]            serves it, loopback only
       firehose.py --pages ENTITY LEADS          prints its pages, one JSON a line: leads, contacts, tasks, notes, events
       firehose.py --pages dictionaries 0        prints users, pipelines, loss_reasons and custom_fields, one page each

Of every lead there are one contact, two tasks (one completed), one call note, and eight events (added, two moves, a
call, tasks added and completed, a field, a message out).  Leads come two minutes apart and are never touched again.
Shapes are the simulator's; nothing else of it is used at run time.
"""

import json
import os
import sys
from email.utils import formatdate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "amocrm"))
sys.dont_write_bytecode = True

from aiohttp import web                                         # noqa: E402

import render                                                   # noqa: E402
import school                                                   # noqa: E402

BEGIN = 1_750_000_000
STEP = 120
EVENTS = 8
ME = school.MANAGERS
STAGE = [school.STAGES[name][0] for name in ("new", "in_work", "deciding")]


def born(n: int) -> int:
    return BEGIN + n * STEP


def lead(n: int) -> dict:
    at = born(n)
    return {"id": 10_000_000 + n, "name": f"Заявка {n}", "price": 28000 + n % 100, "responsible_user_id": ME[n % len(ME)].id,
            "group_id": 0, "status_id": STAGE[2], "pipeline_id": school.SALES, "loss_reason_id": None, "created_by": 0,
            "updated_by": ME[n % len(ME)].id, "created_at": at, "updated_at": at + 100, "closed_at": None,
            "closest_task_at": at + 86400, "is_deleted": False, "custom_fields_values": [
                {"field_id": 720001, "field_name": "Дата создания лида", "field_code": None, "field_type": "date",
                 "values": [{"value": at - at % 86400 - 10800}]},
                {"field_id": 720021, "field_name": "Филиал", "field_code": None, "field_type": "text", "values": [{"value": "Центр"}]}],
            "score": None, "account_id": school.ACCOUNT_ID, "labor_cost": None, "source_id": None,
            "_embedded": {"tags": [], "companies": [], "contacts": [{"id": 20_000_000 + n, "is_main": True}], "loss_reason": []}}


def contact(n: int) -> dict:
    return {"id": 20_000_000 + n, "name": f"Клиент {n}", "responsible_user_id": ME[n % len(ME)].id, "group_id": 0, "created_by": 0,
            "updated_by": 0, "created_at": born(n), "updated_at": born(n), "is_deleted": False, "custom_fields_values": None,
            "account_id": school.ACCOUNT_ID, "_embedded": {"tags": [], "companies": [], "leads": [{"id": 10_000_000 + n}]}}


def task(k: int) -> dict:
    n, second = divmod(k, 2)
    at = born(n) + (60 if second else 10)
    return {"id": 30_000_000 + k, "created_by": ME[n % len(ME)].id, "updated_by": ME[n % len(ME)].id, "created_at": at,
            "updated_at": born(n) + (60 if second else 50), "responsible_user_id": ME[n % len(ME)].id, "group_id": 0,
            "entity_id": 10_000_000 + n, "entity_type": "leads", "is_completed": not second, "task_type_id": 1,
            "text": "Перезвонить клиенту" if second else "Обработать заявку", "duration": 0,
            "complete_till": at + (86400 if second else 900), "result": [], "account_id": school.ACCOUNT_ID}


def note(n: int) -> dict:
    return {"id": 40_000_000 + n, "entity_id": 10_000_000 + n, "created_by": ME[n % len(ME)].id, "updated_by": 0,
            "created_at": born(n) + 30, "updated_at": born(n) + 30, "responsible_user_id": ME[n % len(ME)].id, "group_id": 0,
            "note_type": "call_out", "params": {"uniq": f"u{n}", "duration": 65, "source": "PBX", "phone": f"+7999{n:07d}",
                                                "call_responsible": ME[n % len(ME)].id, "call_status": 4},
            "is_editable": False, "account_id": school.ACCOUNT_ID}


def event(k: int) -> dict:
    n, which = divmod(k, EVENTS)
    user = ME[n % len(ME)].id
    seconds = (0, 10, 20, 30, 50, 60, 70, 100)[which]
    of, id_, after, before, by = "lead", 10_000_000 + n, [], [], user
    if which == 0:
        type_, by, after = "lead_added", 0, [{"note": {"id": 4_000_000 + n}}]
    elif which == 1:
        type_, of, id_ = "task_added", "task", 30_000_000 + 2 * n
    elif which in (2, 7):
        type_ = "lead_status_changed"
        after, before = ([{"lead_status": {"id": STAGE[i], "pipeline_id": school.SALES}}] for i in ((1, 0) if which == 2 else (2, 1)))
    elif which == 3:
        type_, after = "outgoing_call", [{"note": {"id": 40_000_000 + n}}]
    elif which == 4:
        type_, of, id_ = "task_completed", "task", 30_000_000 + 2 * n
    elif which == 5:
        type_, of, id_ = "task_added", "task", 30_000_001 + 2 * n
    else:
        type_, after = "outgoing_chat_message", [{"message": {"id": f"m{n}", "origin": "waba", "talk_id": 5_000_000 + n}}]
    return {"id": f"01{k:024d}", "type": type_, "entity_id": id_, "entity_type": of, "created_by": by,
            "created_at": born(n) + seconds, "value_after": after, "value_before": before, "account_id": school.ACCOUNT_ID,
            "_embedded": {"entity": {"id": id_}}}


#: entity: maker, rows of a lead, stamp of a row
LISTS = {"leads": (lead, 1, "updated_at"), "contacts": (contact, 1, "updated_at"), "tasks": (task, 2, "updated_at"),
         "notes": (note, 1, "updated_at"), "events": (event, EVENTS, "created_at")}


def page_of(entity: str, first: int, count: int, path: str, more: str, falling: bool = False) -> dict:
    make = LISTS[entity][0]
    links = {"self": {"href": render.HOST + path}}
    if more:
        links["next"] = {"href": render.HOST + more}
    rows = [make(k) for k in range(first, first + count)]
    return {"_page": 1, "_links": links, "_embedded": {entity: rows[::-1] if falling else rows}}


def first_from(entity: str, total: int, at: int, above: bool) -> int:
    """The first row whose stamp is at least `at` (above: larger).  Stamps do not fall, but for tasks within a lead."""
    make, rows, stamp = LISTS[entity]
    k = max(0, min(total, ((at - BEGIN) // STEP - 1) * rows))
    while k < total and (make(k)[stamp] < at or above and make(k)[stamp] == at):
        k += 1
    return k


DICTIONARIES = ("/api/v4/users", "/api/v4/leads/pipelines", "/api/v4/leads/loss_reasons", "/api/v4/leads/custom_fields")


def dictionary(path: str) -> dict:
    entity = path.rsplit("/", 1)[-1]
    if entity == "account":
        body = render.account({"task_types", "users_groups", "datetime_settings"})
        body["created_at"] = BEGIN - 1000
        return body
    rows = {"users": [render.user(user, {"group"}) for user in school.USERS], "pipelines": render.pipelines(),
            "loss_reasons": [render.loss_reason(*reason) for reason in school.LOSS_REASONS],
            "custom_fields": [render.custom_field(field, "leads") for field in school.FIELDS.values()]}[entity]
    return {"_links": {"self": {"href": render.HOST + path}}, "_embedded": {entity: rows}}


class Server:
    def __init__(self, leads: int):
        self.leads = leads
        self.now = born(leads) + 86400
        self.requests = 0

    async def list(self, request: web.Request) -> web.Response:
        self.requests += 1
        entity = request.path.rsplit("/", 1)[-1]
        query = request.query
        if query.get("with") == "only_deleted" or entity == "notes" and "/leads/" not in request.path:
            return self.answer(web.Response(status=204))
        total = self.leads * LISTS[entity][1]
        most = 100 if entity == "events" else 250
        limit = int(query.get("limit", 50))
        limit = limit if limit <= most else 50
        stamp = LISTS[entity][2]
        first = first_from(entity, total, int(query.get(f"filter[{stamp}][from]", 0)), False)
        last = first_from(entity, total, int(query.get(f"filter[{stamp}][to]", 1 << 40)), True)
        falling = any(key.startswith("order[") and value == "desc" for key, value in query.items())
        skipped = limit * (int(query.get("page", 1)) - 1)
        count = min(limit, last - first - skipped)
        if count <= 0:
            return self.answer(web.Response(status=204))
        more = str(request.rel_url) if first + skipped + count < last else ""
        return self.answer(web.Response(content_type="application/hal+json", text=json.dumps(
            page_of(entity, last - skipped - count if falling else first + skipped, count, str(request.rel_url), more, falling))))

    def answer(self, response: web.Response) -> web.Response:
        response.headers["Date"] = formatdate(self.now, usegmt=True)
        return response

    async def dictionary(self, request: web.Request) -> web.Response:
        self.requests += 1
        return self.answer(web.json_response(dictionary(request.path), content_type="application/hal+json"))

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"requests": self.requests, "now": self.now})


def main() -> None:
    if sys.argv[1] == "--pages":
        entity, leads = sys.argv[2], int(sys.argv[3])
        if entity == "dictionaries":
            for path in DICTIONARIES:
                print(json.dumps(dictionary(path)))
            return
        size = 100 if entity == "events" else 250
        path = "/api/v4/leads/notes" if entity == "notes" else f"/api/v4/{entity}"
        total = leads * LISTS[entity][1]
        for first in range(0, total, size):
            print(json.dumps(page_of(entity, first, min(size, total - first), path, "")))
        return
    server = Server(int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
    app = web.Application()
    api = "/api/v4"
    app.add_routes([web.get(api + path, server.dictionary) for path in (
        "/account", "/users", "/leads/pipelines", "/leads/loss_reasons", "/leads/custom_fields")])
    app.add_routes([web.get(api + path, server.list) for path in (
        "/leads", "/contacts", "/tasks", "/events", "/leads/notes", "/contacts/notes", "/companies/notes")])
    app.add_routes([web.get("/_sim/stats", server.stats)])

    async def tell(_: web.Application) -> None:
        pass
    runner = web.AppRunner(app, access_log=None)

    async def run() -> None:
        import asyncio
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=256).start()
        Path(sys.argv[1] + ".new").write_text(str(runner.addresses[0][1]))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        await asyncio.sleep(3600)
    import asyncio
    asyncio.run(run())


if __name__ == "__main__":
    main()
