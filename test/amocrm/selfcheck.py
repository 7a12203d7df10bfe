#!/usr/bin/python3
"""Checks the simulator's shapes, not its rules: starts one, reads every list to the end as a sync would, and looks for
broken references, wrong orders and rules that nobody breaks.  Prints what it counted; exit status 1 if anything is wrong.

    selfcheck.py [--seed 1] [--deals 2000] [--days 30]
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import aiohttp

HERE = Path(__file__).resolve().parent
TOKEN = "selfcheck"

#: every rule that data can show (the regulation's rows but for `attest`)
RULES = """FLOW
    NEW-1 NEW-2 NEW-2M NEW-3 NEW-4 NEW-5 NEW-7 NEW-7W NEW-8 NEW-9 NEW-12 NEW-13
    WRK-1 WRK-2 WRK-2L WRK-4 WRK-5 WRK-6 WRK-7 WRK-9 WRK-10
    MISS-1 MISS-3 MISS-5 MISS-6 MISS-6T MISS-7 MISS-8 MISS-9 MISS-10 MISS-11 MISS-12N MISS-12W MISS-13 MISS-13B MISS-14 MISS-15
    CHAT-1 CHAT-2 CHAT-3 CHAT-5 CHAT-6 CHAT-7 CHAT-8 CHAT-9 CHAT-9E CHAT-10 CHAT-11
    DEC-1 DEC-3 DEC-4 DEC-5 DEC-6 DEC-8
    MEET-1 MEET-2 MEET-4 MEET-5 MEET-5E MEET-7
    ONC-1 ONC-2 ONC-4 ONC-5 ONC-6 ONC-7
    DEF-2 DEF-2P DEF-3 DEF-4 DEF-5 DEF-7 DEF-8
    LOST-2 LOST-3 LOST-4 LOST-5 LOST-6
    NQ-2 NQ-3 NQ-4 NQ-5 NQ-6
    WON-1 WON-2 WON-4 WON-5 WON-6 WON-7""".split()

#: of these, the ones that no due moment, tolerance or grace belongs to
UNTIMED = """FLOW NEW-2M NEW-3 NEW-13 WRK-7 WRK-10 MISS-5 MISS-14 CHAT-1 CHAT-5 CHAT-6 CHAT-10 CHAT-11 DEF-3 LOST-5 NQ-5
    WON-4""".split()

LISTS = {"leads?limit=250&with=contacts,loss_reason,source_id": "leads", "leads?limit=250&with=only_deleted": "leads",
         "contacts?limit=250&with=leads": "contacts", "tasks?limit=250": "tasks", "leads/notes?limit=250": "notes",
         "contacts/notes?limit=250": "notes", "companies/notes?limit=250": "notes",
         "events?limit=100&order[created_at]=asc": "events", "talks?limit=250": "talks", "users?limit=250": "users", "leads/loss_reasons?limit=250": "loss_reasons",
         "leads/custom_fields?limit=50": "custom_fields", "leads/unsorted?limit=250": "unsorted"}


class Check:
    def __init__(self) -> None:
        self.wrong: list[str] = []

    def that(self, holds: object, what: str) -> None:
        if not holds and len(self.wrong) < 50:
            self.wrong.append(what)


async def read_list(session: aiohttp.ClientSession, base: str, path: str, key: str, check: Check, seen: Counter) -> list:
    rows, page = [], 1
    while True:
        async with session.get(f"{base}/api/v4/{path}&page={page}") as answer:
            if answer.status == 204:
                check.that(await answer.read() == b"", f"{path}: 204 with a body")
                seen["ended by 204"] += page > 1
                return rows
            check.that(answer.status == 200, f"{path}: {answer.status}")
            check.that(answer.content_type == "application/hal+json", f"{path}: {answer.content_type}")
            body = await answer.json(content_type=None)
        found = body["_embedded"][key]
        limit = int(re.search(r"limit=(\d+)", path)[1])
        seen["short page with next"] += len(found) < limit and "next" in body["_links"]
        rows += found
        if "next" not in body["_links"]:
            return rows
        page += 1


def references(data: dict, check: Check) -> None:
    leads = {lead["id"]: lead for lead in data["leads?limit=250&with=contacts,loss_reason,source_id"]}
    trash = {lead["id"]: lead for lead in data["leads?limit=250&with=only_deleted"]}
    contacts = {contact["id"]: contact for contact in data["contacts?limit=250&with=leads"]}
    users = {user["id"] for user in data["users?limit=250"]} | {0}
    tasks = {task["id"]: task for task in data["tasks?limit=250"]}
    notes = {note["id"]: note for name in data if name.split("?")[0].endswith("/notes") for note in data[name]}
    talks = {talk["talk_id"]: talk for talk in data["talks?limit=250"]}
    fields = {field["id"]: field for field in data["leads/custom_fields?limit=50"]}
    known = {"lead": leads.keys() | trash.keys(), "contact": contacts.keys(), "task": tasks.keys()}

    for lead in leads.values():
        check.that(all(link["id"] in contacts for link in lead["_embedded"]["contacts"]), f"lead {lead['id']}: unknown contact")
        check.that(lead["responsible_user_id"] in users, f"lead {lead['id']}: unknown user")
        check.that(lead["created_at"] <= lead["updated_at"], f"lead {lead['id']}: updated before created")
        check.that(lead["status_id"] not in (142, 143) or lead["closed_at"], f"lead {lead['id']}: closed without closed_at")
        check.that(lead["custom_fields_values"] != [], f"lead {lead['id']}: empty array of fields")
        for value in lead["custom_fields_values"] or ():
            check.that(value["field_id"] in fields, f"lead {lead['id']}: unknown field")
    for lead in trash.values():
        check.that(lead["is_deleted"] and lead["name"] is None and lead["id"] not in leads, f"deleted lead {lead['id']}")
    for task in tasks.values():
        check.that(task["entity_id"] in known["lead"], f"task {task['id']}: unknown lead")
    for note in notes.values():
        check.that("/companies/" in note["_links"]["self"]["href"] or note["entity_id"] in known["lead"] | known["contact"],
                   f"note {note['id']}: unknown entity")

    events = data["events?limit=100&order[created_at]=asc"]
    check.that(all(a["created_at"] <= b["created_at"] for a, b in zip(events, events[1:])), "events out of order")
    check.that(len({event["id"] for event in events}) == len(events), "event ids repeat")
    calls, stage = set(), {}
    for event in events:
        check.that(re.fullmatch(r"[0-9a-z]{26}", event["id"]), f"event id {event['id']}")
        check.that(event["entity_type"] == "company" or event["entity_id"] in known[event["entity_type"]],
                   f"event {event['id']}: unknown {event['entity_type']}")
        check.that(event["created_by"] in users, f"event {event['id']}: unknown user")
        if event["type"] in ("incoming_call", "outgoing_call", "common_note_added"):
            note = notes.get(event["value_after"][0]["note"]["id"])
            check.that(note and note["created_at"] == event["created_at"], f"event {event['id']}: its note")
            calls.add(event["value_after"][0]["note"]["id"])
        elif event["type"].endswith("_chat_message"):
            check.that(event["value_after"][0]["message"]["talk_id"] in talks, f"event {event['id']}: unknown talk")
        elif event["type"] == "lead_status_changed":
            before, after = event["value_before"][0]["lead_status"]["id"], event["value_after"][0]["lead_status"]["id"]
            check.that(stage.get(event["entity_id"], before) == before, f"event {event['id']}: status did not stand at {before}")
            stage[event["entity_id"]] = after
    for id_, status in stage.items():
        check.that(id_ in trash or leads[id_]["status_id"] == status, f"lead {id_}: status is not that of its last event")
    for note in notes.values():
        check.that(note["id"] in calls or note["note_type"] not in ("call_in", "call_out", "common"), f"note {note['id']}: no event")
    done = {event["entity_id"] for event in events if event["type"] == "task_completed"}
    check.that(done == {task["id"] for task in tasks.values() if task["is_completed"]}, "task_completed events and tasks differ")


def truths(rows: list[dict], check: Check, shown: dict) -> Counter:
    meta = rows[0]["meta"]
    breaches = [row for row in rows if "rule" in row]
    counts = Counter(row["rule"] for row in breaches)
    kept = Counter(row["kept"]["rule"] for row in rows if "kept" in row)
    known = {lead["id"] for lead in shown["leads?limit=250&with=contacts,loss_reason,source_id"]}
    users = {user["id"] for user in shown["users?limit=250"]}
    for row in breaches:
        check.that(row["breached_at"] <= meta["now"], f"{row}: after now")
        check.that(row["deal_id"] in known, f"{row}: unknown deal")
        check.that(row["manager_id"] is None or row["manager_id"] in users, f"{row}: unknown manager")
    keys = Counter((row["deal_id"], row["rule"], row["task_id"], row["breached_at"]) for row in breaches)
    check.that(max(keys.values()) == 1, f"declared twice: {[key for key, n in keys.items() if n > 1][:3]}")
    check.that(not counts.keys() - set(RULES), f"unknown rules: {counts.keys() - set(RULES)}")
    if meta["deals"] >= 1000 and meta["days"] >= 20:
        check.that(not set(RULES) - counts.keys(), f"rules nobody breaks: {sorted(set(RULES) - counts.keys())}")
        check.that(min(counts.values()) >= 3, f"rules broken less than three times: {[r for r in counts if counts[r] < 3]}")
        never = set(RULES) - set(UNTIMED) - kept.keys()
        check.that(not never, f"timed rules never kept to the second: {sorted(never)}")
    return counts


async def check_all(base: str, truth: list[dict], check: Check) -> None:
    seen: Counter = Counter()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        async with session.get(base + "/api/v4/account", headers={"Authorization": "Bearer wrong"}) as answer:
            check.that(answer.status == 401 and answer.content_type == "application/problem+json", "a wrong token is not refused")
        async with session.get(base + "/api/v4/calls") as answer:
            check.that(answer.status == 405, f"/calls: {answer.status}")
        async with session.get(base + "/api/v4/leads?limit=500") as answer:
            check.that(len((await answer.json(content_type=None))["_embedded"]["leads"]) == 50, "over the maximum is not 50")
        data = {path: await read_list(session, base, path, key, check, seen) for path, key in LISTS.items()}
        async with session.get(base + "/_sim/stats") as answer:
            shown = (await answer.json())["shown"]
    check.that(len(data["events?limit=100&order[created_at]=asc"]) == shown["event"], "events were lost between pages")
    check.that(len(data["tasks?limit=250"]) == shown["task"], "tasks were lost between pages")
    check.that(seen["ended by 204"] and seen["short page with next"], f"oddities of paging did not show: {dict(seen)}")
    references(data, check)
    counts = truths(truth, check, data)
    for path, rows in data.items():
        print(f"{len(rows):7} {path}")
    print("breaches declared:", " ".join(f"{rule}={counts[rule]}" for rule in RULES))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--deals", default="2000")
    parser.add_argument("--days", default="30")
    options = parser.parse_args()
    check = Check()
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.jsonl"
        command = [sys.executable, str(HERE / "sim.py"), "--seed", options.seed, "--deals", options.deals, "--days", options.days,
                   "--token", TOKEN, "--rate", "0", "--truth", str(truth)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
            try:
                ready = simulator.stdout.readline()
                base = re.search(r"http://\S+", ready)[0]
                rows = [json.loads(line) for line in truth.read_text().splitlines()]
                asyncio.run(check_all(base, rows, check))
            finally:
                simulator.terminate()
    for wrong in check.wrong:
        print("WRONG", wrong)
    return 1 if check.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
