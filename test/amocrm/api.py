"""The HTTP side: amoCRM API v4 with its limits, tokens and oddities, and the simulator's own /_sim.

Answers come from a `Shown`; the Date header is the simulated now.
"""

import asyncio
import base64
import json
import re
import socket
import struct
import time
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from email.utils import formatdate
from typing import Any, Callable, Optional

from aiohttp import web

import render
import school
from live import Live
from world import Shown, Thing, World

NGINX = ("<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
         "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n")
HTML_429, HTML_403, HTML_504 = map(NGINX.format, ("429 Too Many Requests", "403 Forbidden", "504 Gateway Time-out"))
HTML_PAGE = "<!doctype html><html><head><title>amoCRM</title></head><body>Аккаунт заблокирован</body></html>"

#: the second row: what a fault does before or to an answer that is otherwise made as always
FAULTS = ("429", "402", "403", "403json", "500", "504", "html", "204", "empty", "garbage",
          "cut", "reset", "delay", "break", "drip", "expire", "revoke", "touch", "skew", "rename")
AFTERWARDS = ("cut", "reset", "delay", "break", "drip", "expire", "revoke", "touch", "skew", "rename")


SINGULAR = {plural: singular for singular, plural in render.PLURAL.items()}


class Statistics:
    """Requests to the API by real time."""

    def __init__(self) -> None:
        self.total = 0
        self.refused = 0
        self.paths: Counter = Counter()
        self.rows: Counter = Counter()              # rows of lists given out
        self.recent: deque = deque()
        self.most = 0

    def arrive(self, path: str) -> None:
        now = time.monotonic()
        self.total += 1
        self.paths[re.sub(r"/\d+", "/{id}", path)] += 1
        self.recent.append(now)
        while now - self.recent[0] > 1.0:
            self.recent.popleft()
        self.most = max(self.most, len(self.recent))


class Tokens:
    """OAuth 2.0: access tokens live until expired, a refresh token dies when it is exchanged."""

    def __init__(self, long_lived: str, client_id: str, client_secret: str, code: str):
        self.client_id, self.client_secret = client_id, client_secret
        self.access = {long_lived}
        self.codes, self.refresh = {code}, set()
        self.issued = self.exchanges = self.refused = 0
        self.last, self.last_used = "", False       # the access token issued last; whether anybody showed it
        self.api_domain = "127.0.0.1"               # the shard's host, which tokens name

    def pair(self) -> tuple[str, str]:
        self.issued += 1
        claims = json.dumps({"api_domain": self.api_domain, "pad": "x" * 700}).encode()
        access = f"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{self.issued:08d}"
        refresh = f"def502{'00ff' * 150}{self.issued:08d}"
        self.access.add(access)
        self.refresh.add(refresh)
        self.last, self.last_used = access, False
        return access, refresh

    def expire(self) -> None:
        self.access = {token for token in self.access if not token.startswith("eyJ0eXAi")}

    def exchange(self, body: dict) -> Optional[tuple[str, str]]:
        self.exchanges += 1
        pool, key = {"authorization_code": (self.codes, "code"), "refresh_token": (self.refresh, "refresh_token")}.get(
            body.get("grant_type"), (set(), ""))
        if body.get("client_id") != self.client_id or body.get("client_secret") != self.client_secret:
            return None
        if body.get(key) not in pool:
            self.refused += 1
            return None
        pool.discard(body[key])
        return self.pair()


def problem(status: int, title: str, detail: str) -> web.Response:
    return web.Response(status=status, content_type="application/problem+json", text=json.dumps(
        {"title": title, "type": f"https://httpstatus.es/{status}", "status": status, "detail": detail}, ensure_ascii=False))


def html(status: int, text: str) -> web.Response:
    return web.Response(status=status, content_type="text/html", text=text)


def hal(body: Any) -> web.Response:
    """JSON as PHP sends it: escaped, so that even half a surrogate pair gets through."""
    return web.Response(content_type="application/hal+json", text=json.dumps(body))


def empty() -> web.Response:
    return web.Response(status=204)


# ------------------------------------------------------------------------------------ queries

class Query:
    """PHP-style parameters."""

    def __init__(self, request: web.Request):
        self.items = request.query

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.items.get(name, default))
        except ValueError:
            return default

    def values(self, name: str) -> list[str]:
        """name=1,2 or name[]=1&name[]=2 or name[0]=1."""
        found = []
        for key, value in self.items.items():
            if key == name or re.fullmatch(re.escape(name) + r"\[\d*\]", key):
                found += value.split(",")
        return [value for value in found if value]

    def numbers(self, name: str) -> set[int]:
        return {int(value) for value in self.values(name) if re.fullmatch(r"-?\d+", value)}

    def span(self, name: str) -> Optional[tuple[int, int]]:
        """Both ends inclusive; a bare number means "from"."""
        first = self.items.get(f"filter[{name}][from]", self.items.get(f"filter[{name}]"))
        last = self.items.get(f"filter[{name}][to]")
        if first and "," in first:
            first, last = first.split(",", 1)
        if first is None and last is None:
            return None
        return int(first or 0), int(last or 1 << 62)

    def order(self, *allowed: str) -> Optional[tuple[str, bool]]:
        for key in allowed:
            if f"order[{key}]" in self.items:
                return key, self.items[f"order[{key}]"].lower() == "desc"
        return None

    @property
    def with_(self) -> set[str]:
        return set(self.values("with"))


def pages(request: web.Request, rows: list, name: str, most: int, show: Callable, total: bool = False) -> web.Response:
    """One page.  Every fourth page is three rows short; sometimes `next` leads to a 204."""
    query = Query(request)
    limit = query.number("limit", 50)
    if not 1 <= limit <= most:
        limit = 50
    page = max(1, query.number("page", 1))
    short = 3 if limit >= 20 else 0
    before = page - 1
    first = before * limit - short * ((before + 2) // 4)
    size = limit - (short if page % 4 == 2 else 0)
    shown = rows[first:first + size]
    request["served"] = name, len(shown)
    if not shown:
        return empty()
    def link(number: int) -> dict:
        return {"href": render.HOST + str(request.rel_url.update_query(page=str(number), limit=str(limit)))}
    links = {"self": link(page)}
    if first + size < len(rows) or len(rows) % 3 == 0 and not total:
        links["next"] = link(page + 1)
    body = {"_page": page, "_links": links, "_embedded": {name: [show(row) for row in shown]}}
    if total:
        body = {"_total_items": len(rows), "_page_count": -(-len(rows) // limit), **body}
    return hal(body)


# ------------------------------------------------------------------------------------ the server

class Api:
    def __init__(self, world: World, tokens: Tokens, *, rate: int, events_limit: int, raw: bool):
        self.world, self.tokens = world, tokens
        self.shown = Shown(world, world.end)
        self.rate, self.events_limit, self.raw = rate, events_limit, raw
        self.statistics = Statistics()
        self.allowed: deque = deque()
        self.faults: list[dict] = []
        self.lag = {"event": 0, "note": 0}          # seconds by which a list is behind
        self.live = Live(self.shown)
        self.running: Optional[asyncio.Task] = None
        self.tls_port: Optional[int] = None
        self.home = ""                              # the only host that knows the account; "" = any
        self.hidden: dict[tuple, str] = {}          # (kind, id): "unlisted", but shown by id; or "gone"

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self.gatekeeper], client_max_size=1 << 20)
        api = "/api/v4"
        app.add_routes([
            web.get(api + "/account", self.account),
            web.get(api + "/users", self.users), web.get(api + "/users/{id:\\d+}", self.user),
            web.get(api + "/leads/pipelines", self.pipelines),
            web.get(api + "/leads/pipelines/{id:\\d+}", self.pipelines),
            web.get(api + "/leads/pipelines/{id:\\d+}/statuses", self.statuses),
            web.get(api + "/leads/loss_reasons", self.loss_reasons),
            web.get(api + "/{entity:leads|contacts|companies}/custom_fields", self.custom_fields),
            web.get(api + "/{entity:leads|contacts|companies}/notes", self.notes),
            web.get(api + "/{entity:leads|contacts|companies}/{of:\\d+}/notes", self.notes),
            web.get(api + "/{entity:leads|contacts|companies}/notes/{id:\\d+}", self.note),
            web.get(api + "/{entity:leads|contacts|companies}/{of:\\d+}/notes/{id:\\d+}", self.note),
            web.get(api + "/leads/links", self.links), web.get(api + "/leads/unsorted", self.unsorted),
            web.get(api + "/leads", self.leads), web.get(api + "/leads/{id:\\d+}", self.lead),
            web.get(api + "/contacts", self.contacts), web.get(api + "/contacts/{id:\\d+}", self.contact),
            web.get(api + "/companies", self.nothing), web.post(api + "/calls", self.nothing),
            web.post(api + "/leads/notes", self.add_notes), web.post(api + "/leads/{of:\\d+}/notes", self.add_notes),
            web.post(api + "/tasks", self.add_tasks), web.patch(api + "/leads/{id:\\d+}", self.change_lead),
            web.get(api + "/tasks", self.tasks), web.get(api + "/tasks/{id:\\d+}", self.task),
            web.get(api + "/events/types", self.event_types),
            web.get(api + "/events", self.events), web.get(api + "/events/{id}", self.event),
            web.get(api + "/talks", self.talks), web.get(api + "/talks/{id:\\d+}", self.talk),
            web.post("/oauth2/access_token", self.access_token),
            web.get("/oauth2/account/current/subdomain", self.subdomain), web.get("/oauth2/account/subdomain", self.subdomain),
            web.post("/_sim/rename", self.sim_rename),
            web.get("/_sim/stats", self.sim_stats), web.post("/_sim/advance", self.sim_advance),
            web.get("/_sim/faults", self.sim_faults), web.post("/_sim/faults", self.sim_set_faults),
            web.delete("/_sim/faults", self.sim_clear_faults), web.post("/_sim/expire", self.sim_expire),
            web.post("/_sim/lag", self.sim_lag), web.post("/_sim/act", self.sim_act), web.post("/_sim/run", self.sim_run),
            web.get("/_sim/leads", self.sim_leads), web.post("/_sim/token", self.sim_token), web.post("/_sim/pair", self.sim_pair),
            web.post("/_sim/lag", self.sim_lag), web.post("/_sim/hide", self.sim_hide),
        ])
        return app

    # -------------------------------------------------------------------------------- at the gate

    @web.middleware
    async def gatekeeper(self, request: web.Request, handler: Callable) -> web.StreamResponse:
        if request.path.startswith("/_sim/"):
            response = await handler(request)
        else:
            self.statistics.arrive(request.path)
            response = await self._guarded(request, handler)
            if "served" in request:
                name, rows = request["served"]
                self.statistics.rows[name] += rows
        response.headers["Date"] = formatdate(self.shown.now + request.get("skew", 0), usegmt=True)
        response.headers["Server"] = "nginx"
        return response

    async def _guarded(self, request: web.Request, handler: Callable) -> web.StreamResponse:
        if not self._within_rate():
            self.statistics.refused += 1
            return html(429, HTML_429)
        fault = self._fault(request)
        kind = fault["kind"] if fault else None
        if kind == "delay":
            await asyncio.sleep(fault["seconds"])
        elif kind == "expire":
            self.tokens.expire()
        elif kind == "revoke":
            self.tokens.access.clear()
        elif kind == "skew":
            request["skew"] = int(fault["seconds"])
        elif kind == "rename":
            self.home = f"localhost:{request.url.port}"
        if kind and kind not in AFTERWARDS:
            answer = {"429": lambda: html(429, HTML_429), "403": lambda: html(403, HTML_403), "500": lambda: html(500, ""),
                      "402": lambda: problem(402, "Payment Required", "Аккаунт не оплачен"),
                      "403json": lambda: problem(403, "Forbidden", "Нет прав"),
                      "504": lambda: html(504, HTML_504), "html": lambda: html(200, HTML_PAGE), "204": empty,
                      "empty": lambda: web.Response(content_type="application/hal+json", body=b""),
                      "garbage": lambda: web.Response(content_type="application/hal+json", body=b'{"_page":1,"\xff\xfe\x00":'),
                      }[kind]()
            if fault["retry_after"] is not None:
                answer.headers["Retry-After"] = str(fault["retry_after"])
            return answer
        if self.home and request.host != self.home and not request.path.startswith("/oauth2/account/"):
            return problem(404, "Not Found", "Аккаунт не найден")
        if request.path.startswith("/api/") and not self._known_token(request):
            return problem(401, "Unauthorized", "Неверный логин или пароль")
        try:
            response = await handler(request)
        except web.HTTPNotFound:
            return problem(404, "Not Found", "Resource not found")
        except web.HTTPMethodNotAllowed:
            return problem(405, "Method Not Allowed", "Method not allowed")
        except ValueError as bad:
            return problem(400, "Bad Request", str(bad))
        if kind == "cut":
            response = web.Response(content_type="application/hal+json", body=response.body[:len(response.body or b"") // 2])
        elif kind == "reset":
            request.transport.abort()                   # done, but nobody will hear of it
        elif kind in ("break", "drip"):
            await self._by_hand(request, response, fault)
        elif kind == "touch":
            self.live.touch(request.path, response.body)
        return response

    @staticmethod
    async def _by_hand(request: web.Request, response: web.Response, fault: dict) -> None:
        """Part of the answer, byte for byte, then the end of the connection."""
        body = response.body or b""
        head = (f"HTTP/1.1 {response.status} {response.reason}\r\nContent-Type: application/hal+json\r\n"
                f"Content-Length: {len(body)}\r\n").encode()
        whole = head + b"\r\n" + body
        end = {"nothing": 0, "status": 6, "line": head.index(b"\r\n") + 2, "header": head.index(b"\r\n") + 10,
               "headers": len(head), "blank": len(head) + 2, "first": len(head) + 3, "middle": len(head) + 2 + len(body) // 2,
               "last": len(whole) - 1}[fault["at"]]
        transport = request.transport
        if fault["kind"] == "drip":
            transport.write(head + b"\r\n")
            for byte in body[:int(fault["bytes"])]:
                if transport.is_closing():
                    return
                transport.write(bytes([byte]))
                await asyncio.sleep(fault["seconds"])
        elif end:
            transport.write(whole[:end])
            await asyncio.sleep(0.02)
        if fault["how"] == "rst":
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _within_rate(self) -> bool:
        now = time.monotonic()
        while self.allowed and now - self.allowed[0] >= 1.0:
            self.allowed.popleft()
        if self.rate and len(self.allowed) >= self.rate:
            return False
        self.allowed.append(now)
        return True

    def _fault(self, request: web.Request) -> Optional[dict]:
        for fault in self.faults:
            if fault["path"] not in request.path_qs or fault["method"] not in ("", request.method):
                continue
            if fault["over_limit"] is not None and Query(request).number("limit", 50) <= fault["over_limit"]:
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                continue
            fault["count"] -= 1
            self.faults = [left for left in self.faults if left["count"] > 0]
            return fault
        return None

    def _known_token(self, request: web.Request) -> bool:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        self.tokens.last_used |= token == self.tokens.last
        return kind == "Bearer" and token in self.tokens.access

    # -------------------------------------------------------------------------------- dictionaries

    async def account(self, request: web.Request) -> web.Response:
        return hal(render.account(Query(request).with_))

    async def users(self, request: web.Request) -> web.Response:
        with_ = Query(request).with_
        return pages(request, list(school.USERS), "users", 250, lambda user: render.user(user, with_), total=True)

    async def user(self, request: web.Request) -> web.Response:
        for user in school.USERS:
            if user.id == int(request.match_info["id"]):
                return hal(render.user(user, Query(request).with_))
        raise web.HTTPNotFound

    async def pipelines(self, request: web.Request) -> web.Response:
        found = render.pipelines()
        if "id" in request.match_info:
            for pipeline in found:
                if pipeline["id"] == int(request.match_info["id"]):
                    return hal(pipeline)
            raise web.HTTPNotFound
        return hal({"_total_items": len(found), "_links": {"self": {"href": render.HOST + "/api/v4/leads/pipelines"}},
                    "_embedded": {"pipelines": found}})

    async def statuses(self, request: web.Request) -> web.Response:
        for pipeline in render.pipelines():
            if pipeline["id"] == int(request.match_info["id"]):
                statuses = pipeline["_embedded"]["statuses"]
                return hal({"_total_items": len(statuses), "_embedded": {"statuses": statuses}})
        raise web.HTTPNotFound

    async def loss_reasons(self, request: web.Request) -> web.Response:
        return pages(request, list(school.LOSS_REASONS), "loss_reasons", 250, lambda reason: render.loss_reason(*reason),
                     total=True)

    async def custom_fields(self, request: web.Request) -> web.Response:
        entity = request.match_info["entity"]
        fields = {"leads": list(school.FIELDS.values()), "contacts": [school.PHONE], "companies": []}[entity]
        return pages(request, fields, "custom_fields", 50, lambda field: render.custom_field(field, entity), total=True)

    async def nothing(self, request: web.Request) -> web.Response:
        return empty()

    # -------------------------------------------------------------------------------- entities

    async def leads(self, request: web.Request) -> web.Response:
        query = Query(request)
        trash = "only_deleted" in query.with_
        rows = [lead for lead in self.shown.lists["lead"] if lead.shown["deleted"] == trash]
        rows = self._filtered(query, rows, {
            "responsible_user_id": "responsible", "created_by": "created_by", "updated_by": "updated_by",
            "pipeline_id": "pipeline"},
            ("created_at", "updated_at", "closed_at"))
        wanted = set()
        for n in range(100):
            pipeline = query.items.get(f"filter[statuses][{n}][pipeline_id]")
            status = query.items.get(f"filter[statuses][{n}][status_id]")
            if pipeline and status:
                wanted.add((int(pipeline), int(status)))
        if wanted:
            rows = [lead for lead in rows if (lead.shown["pipeline"], lead.shown["status"]) in wanted]
        rows = self._sorted(query, rows, "created_at", "updated_at", "id")
        return pages(request, rows, "leads", 250, lambda lead: render.lead(lead, self.shown, query.with_, self.raw))

    async def lead(self, request: web.Request) -> web.Response:
        lead = self.shown.by_id["lead"].get(int(request.match_info["id"]))
        if lead is None or lead.shown["deleted"]:
            return empty()
        return hal(render.lead(lead, self.shown, Query(request).with_, self.raw))

    async def contacts(self, request: web.Request) -> web.Response:
        query = Query(request)
        rows = self._filtered(query, self.shown.lists["contact"], {"responsible_user_id": "responsible"},
                              ("created_at", "updated_at"))
        return pages(request, self._sorted(query, rows, "updated_at", "id"), "contacts", 250,
                     lambda contact: render.contact(contact, self.shown, query.with_))

    async def contact(self, request: web.Request) -> web.Response:
        contact = self.shown.by_id["contact"].get(int(request.match_info["id"]))
        return hal(render.contact(contact, self.shown, Query(request).with_)) if contact else empty()

    async def links(self, request: web.Request) -> web.Response:
        ids = Query(request).numbers("filter[entity_id]")
        if not ids:
            raise ValueError("filter[entity_id] is required")
        rows = [lead for lead in self.shown.lists["lead"] if lead.id in ids and not lead.shown["deleted"]]
        return pages(request, rows, "links", 250, lambda lead: {
            "entity_id": lead.id, "entity_type": "leads", "to_entity_id": lead.fixed["contact"].id, "to_entity_type": "contacts",
            "metadata": {"main_contact": True}}, total=True)

    async def unsorted(self, request: web.Request) -> web.Response:
        rows = [lead for lead in self.shown.lists["lead"] if lead.shown["status"] == school.UNSORTED]
        return pages(request, rows, "unsorted", 250, lambda lead: {
            "uid": f"u{lead.id}", "source_uid": None, "source_name": "Сайт", "category": "forms", "pipeline_id": school.SALES,
            "created_at": lead.shown["created_at"], "metadata": {}, "account_id": school.ACCOUNT_ID,
            "_embedded": {"leads": [{"id": lead.id}], "contacts": [], "companies": []}})

    async def tasks(self, request: web.Request) -> web.Response:
        query = Query(request)
        rows = [task for task in self.shown.lists["task"] if not task.shown.get("gone")]
        rows = self._filtered(query, rows, {"responsible_user_id": "responsible"}, ("updated_at",))
        if query.values("filter[is_completed]"):
            done = query.values("filter[is_completed]")[0] == "1"
            rows = [task for task in rows if task.shown["done"] == done]
        if query.values("filter[entity_type]") and query.values("filter[entity_type]") != ["leads"]:
            rows = []
        of = query.numbers("filter[entity_id]")
        if of:
            rows = [task for task in rows if task.fixed["lead"].id in of]
        order = query.order("created_at", "complete_till", "id")
        if order:
            key = {"created_at": lambda task: (task.fixed["at"], task.id), "id": lambda task: task.id,
                   "complete_till": lambda task: (task.shown["due"], task.id)}[order[0]]
            rows = sorted(rows, key=key, reverse=order[1])
        return pages(request, rows, "tasks", 250, render.task)

    async def task(self, request: web.Request) -> web.Response:
        task = self.shown.by_id["task"].get(int(request.match_info["id"]))
        there = task and not task.shown.get("gone")
        return hal(render.task(task)) if there else web.Response(content_type="application/hal+json", body=b"")

    async def notes(self, request: web.Request) -> web.Response:
        query = Query(request)
        kind = SINGULAR[request.match_info["entity"]]
        rows = [note for note in self._arrived("note") if note.fixed["of"].kind == kind]
        of = query.numbers("filter[entity_id]") | ({int(request.match_info["of"])} if "of" in request.match_info else set())
        if of:
            rows = [note for note in rows if note.fixed["of"].id in of]
        types = set(query.values("filter[note_type]"))
        if types:
            rows = [note for note in rows if note.fixed["type"] in types]
        rows = self._filtered(query, rows, {}, ("updated_at",))
        return pages(request, self._sorted(query, rows, "updated_at", "id"), "notes", 250, render.note)

    async def note(self, request: web.Request) -> web.Response:
        note = self.shown.by_id["note"].get(int(request.match_info["id"]))
        return hal(render.note(note)) if note else empty()

    async def talks(self, request: web.Request) -> web.Response:
        query = Query(request)
        rows = self.shown.lists["talk"]
        ids = query.numbers("filter[talk_id]")
        if ids:
            rows = [talk for talk in rows if talk.id in ids]
        of = query.numbers("filter[entity_id]")
        if of:
            rows = [talk for talk in rows if talk.fixed["lead"].id in of]
        return pages(request, rows, "talks", 250, render.talk)

    async def talk(self, request: web.Request) -> web.Response:
        talk = self.shown.by_id["talk"].get(int(request.match_info["id"]))
        return hal(render.talk(talk)) if talk else empty()

    # -------------------------------------------------------------------------------- writing

    async def add_notes(self, request: web.Request) -> web.Response:
        rows = await request.json()
        added = [self.live.add_note(self._lead_of(row.get("entity_id", request.match_info.get("of"))), row) for row in rows]
        return hal({"_links": {}, "_embedded": {"notes": [
            {"id": note.id, "entity_id": note.fixed["of"].id, "request_id": row.get("request_id", str(n))}
            for n, (note, row) in enumerate(zip(added, rows))]}})

    async def add_tasks(self, request: web.Request) -> web.Response:
        rows = await request.json()
        for row in rows:
            if row.get("entity_type") != "leads" or not row.get("text") or not row.get("complete_till"):
                raise ValueError("Request validation failed")
        added = [self.live.add_task(self._lead_of(row["entity_id"]), row) for row in rows]
        return hal({"_links": {}, "_embedded": {"tasks": [
            {"id": task.id, "request_id": row.get("request_id", str(n))} for n, (task, row) in enumerate(zip(added, rows))]}})

    async def change_lead(self, request: web.Request) -> web.Response:
        lead = self._lead_of(request.match_info["id"])
        asked = await request.json()
        known = {(pipeline["id"], status["id"]) for pipeline in render.pipelines() for status in pipeline["_embedded"]["statuses"]}
        if (asked.get("pipeline_id", lead.shown["pipeline"]), asked.get("status_id", lead.shown["status"])) not in known:
            raise ValueError("Request validation failed")
        self.live.change(lead, asked, 0)
        return hal({"id": lead.id, "updated_at": lead.shown["updated_at"], "_links": {}})

    def _lead_of(self, id_: Any) -> Thing:
        lead = self.shown.by_id["lead"].get(int(id_ or 0))
        if lead is None or lead.shown["deleted"]:
            raise web.HTTPNotFound
        return lead

    # -------------------------------------------------------------------------------- events

    async def events(self, request: web.Request) -> web.Response:
        query = Query(request)
        entities, of = query.values("filter[entity]"), query.numbers("filter[entity_id]")
        types, creators = query.values("filter[type]"), query.numbers("filter[created_by]")
        if of and (len(entities) != 1 or len(of) > 10):
            raise ValueError("filter[entity_id] wants exactly one filter[entity] and at most ten ids")
        if len(creators) > 10:
            raise ValueError("filter[created_by] takes at most ten users")
        if len(types) > 1 and any(type_.startswith("custom_field_") for type_ in types):
            raise ValueError("custom_field_…_value_changed can only be filtered alone")
        rows = self._arrived("event")                      # in time order
        span = query.span("created_at")
        if span:
            rows = rows[bisect_left(rows, span[0], key=_at):bisect_right(rows, span[1], key=_at)]
        ids = set(query.values("filter[id]"))
        for wanted, key in ((ids, lambda event: event.id), (set(entities), lambda event: event.fixed["of"].kind),
                            (of, lambda event: event.fixed["of"].id), (set(types), lambda event: event.fixed["type"]),
                            (creators, lambda event: event.fixed["by"])):
            if wanted:
                rows = [event for event in rows if key(event) in wanted]
        order = query.order("created_at", "id")
        if order is None or order[1]:                           # undocumented: newest first
            rows = rows[::-1]
        return pages(request, rows, "events", self.events_limit, lambda event: render.event(event, query.with_))

    async def event(self, request: web.Request) -> web.Response:
        event = self.shown.by_id["event"].get(request.match_info["id"])
        return hal(render.event(event, Query(request).with_)) if event else empty()

    async def event_types(self, request: web.Request) -> web.Response:
        seen = sorted({event.fixed["type"] for event in self.shown.lists["event"]})
        return hal({"_total_items": len(seen), "_embedded": {"events_types": [
            {"key": key, "type": number, "lang": key} for number, key in enumerate(seen, 1)]}})

    # -------------------------------------------------------------------------------- filters

    def _arrived(self, kind: str) -> list[Thing]:
        """A list without what lags behind."""
        rows = self.shown.lists[kind]
        return rows[:bisect_right(rows, self.shown.now - self.lag[kind], key=_at)] if self.lag[kind] else rows

    def _filtered(self, query: Query, rows: list[Thing], columns: dict[str, str], spans: tuple) -> list[Thing]:
        ids = query.numbers("filter[id]")
        if self.hidden:
            unseen = {"gone"} if ids else {"gone", "unlisted"}
            rows = [row for row in rows if self.hidden.get((row.kind, row.id)) not in unseen]
        if ids:
            rows = [row for row in rows if row.id in ids]
        for name, column in columns.items():
            wanted = query.numbers(f"filter[{name}]")
            if wanted:
                rows = [row for row in rows if row.shown[column] in wanted]
        for name in spans:
            span = query.span(name)
            if span:
                rows = [row for row in rows if span[0] <= (row.shown[name] or 0) <= span[1]]
        return rows

    @staticmethod
    def _sorted(query: Query, rows: list[Thing], *allowed: str) -> list[Thing]:
        order = query.order(*allowed)
        if order is None:
            return rows
        key, reverse = order
        return sorted(rows, key=lambda row: (row.id,) if key == "id" else (row.shown[key], row.id), reverse=reverse)

    # -------------------------------------------------------------------------------- OAuth

    async def access_token(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except ValueError:
            body = dict(await request.post())
        pair = self.tokens.exchange(body)
        if pair is None:
            return web.Response(status=401, content_type="application/problem+json", text=json.dumps(
                {"hint": "Token has been revoked", "title": "Некорректный запрос",
                 "type": "https://developers.amocrm.ru/v3/errors/OAuthProblemJson", "status": 401,
                 "detail": "В запросе отсутствует ряд параметров или параметры невалидны"}, ensure_ascii=False))
        return web.json_response({"token_type": "Bearer", "expires_in": 86400, "access_token": pair[0], "refresh_token": pair[1],
                                  **({"server_time": self.shown.now} if self.tokens.issued % 2 else {})})

    # -------------------------------------------------------------------------------- the simulator's own

    async def sim_stats(self, request: web.Request) -> web.Response:
        seen = self.statistics
        return web.json_response({"now": self.shown.now, "tls_port": self.tls_port, "requests": seen.total, "refused_429": seen.refused,
                                  "most_in_a_second": seen.most, "paths": dict(seen.paths), "rows": dict(seen.rows),
                                  "shown": {kind: len(things) for kind, things in self.shown.lists.items()},
                                  "tokens": {"issued": self.tokens.issued, "exchanges": self.tokens.exchanges,
                                             "refused": self.tokens.refused, "last_used": self.tokens.last_used}})

    async def sim_advance(self, request: web.Request) -> web.Response:
        self.shown.advance(self.shown.now + Query(request).number("seconds", 0))
        return web.json_response({"now": self.shown.now})

    async def sim_faults(self, request: web.Request) -> web.Response:
        return web.json_response(self.faults)

    async def sim_set_faults(self, request: web.Request) -> web.Response:
        asked = await request.json()
        for fault in asked if isinstance(asked, list) else [asked]:
            if fault.get("kind") not in FAULTS:
                return web.json_response({"error": f"kind is one of {', '.join(FAULTS)}"}, status=400)
            self.faults.append({"kind": fault["kind"], "count": int(fault.get("count", 1)), "path": fault.get("path", ""),
                                "skip": int(fault.get("skip", 0)), "seconds": float(fault.get("seconds", 1)),
                                "method": fault.get("method", ""), "over_limit": fault.get("over_limit"),
                                "retry_after": fault.get("retry_after"), "at": fault.get("at", "middle"),
                                "how": fault.get("how", "fin"), "bytes": fault.get("bytes", 1 << 30)})
        return web.json_response(self.faults)

    async def sim_clear_faults(self, request: web.Request) -> web.Response:
        self.faults = []
        return web.json_response([])

    async def sim_lag(self, request: web.Request) -> web.Response:
        """Events or notes of the last seconds are not listed yet, as life has it."""
        query = Query(request)
        for kind in self.lag:
            self.lag[kind] = query.number(kind, self.lag[kind])
        return web.json_response(self.lag)

    async def subdomain(self, request: web.Request) -> web.Response:
        """What the shard's host tells to who shows a token."""
        if request.headers.get("X-Refresh-Token") not in self.tokens.refresh and not self._known_token(request):
            return problem(401, "Unauthorized", "Неверный токен")
        return web.json_response({"id": school.ACCOUNT_ID, "subdomain": "renamed", "domain": self.home or request.host})

    async def sim_rename(self, request: web.Request) -> web.Response:
        """From now on the account is at this host, and the old address knows nothing of it."""
        self.home = Query(request).items.get("host", "")
        return web.json_response({"home": self.home})

    async def sim_hide(self, request: web.Request) -> web.Response:
        """A lead, contact or task that lists leave out ("unlisted"), or that nothing shows any more ("gone")."""
        asked = await request.json()
        for kind, ids in asked["things"].items():
            for id_ in ids:
                self.hidden[kind, int(id_)] = asked["how"]
        return web.json_response({"hidden": len(self.hidden)})

    async def sim_expire(self, request: web.Request) -> web.Response:
        """Access tokens issued by an exchange are worth nothing from now on."""
        self.tokens.expire()
        return web.json_response({"access_tokens": len(self.tokens.access)})

    async def sim_token(self, request: web.Request) -> web.Response:
        """Another long-lived token is good from now on."""
        self.tokens.access.add(Query(request).items["token"])
        return web.json_response({"access_tokens": len(self.tokens.access)})

    async def sim_pair(self, request: web.Request) -> web.Response:
        """A pair of tokens as an exchange gives them."""
        access, refresh = self.tokens.pair()
        return web.json_response({"access_token": access, "refresh_token": refresh})

    async def sim_act(self, request: web.Request) -> web.Response:
        """Somebody does something, now: {"lead": id, "status": …, "pipeline": …, "by": user} moves a lead."""
        asked = await request.json()
        lead = self.shown.by_id["lead"][int(asked["lead"])]
        self.live.change(lead, {"status_id": asked["status"], "pipeline_id": asked.get("pipeline", lead.shown["pipeline"])},
                         int(asked.get("by", school.MANAGERS[0].id)))
        return web.json_response({"now": self.shown.now})

    async def sim_run(self, request: web.Request) -> web.Response:
        """From now on time passes by itself."""
        if self.running is None:
            self.running = asyncio.create_task(self._pass_time())
        return web.json_response({"now": self.shown.now})

    async def _pass_time(self) -> None:
        begin, at = time.monotonic(), self.shown.now
        while True:
            self.shown.advance(max(self.shown.now, at + int(time.monotonic() - begin)))
            await asyncio.sleep(0.05)

    async def sim_leads(self, request: web.Request) -> web.Response:
        """What is shown of leads: id, pipeline, status."""
        return web.json_response([{"id": lead.id, "pipeline": lead.shown["pipeline"], "status": lead.shown["status"]}
                                  for lead in self.shown.lists["lead"] if not lead.shown["deleted"]])


def _at(event: Thing) -> int:
    return event.fixed["at"]
