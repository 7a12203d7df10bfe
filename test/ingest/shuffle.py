#!/usr/bin/python3
"""The order of pages must not matter: one simulated account is read at several moments, its pages are taken in by
several orders (the last orders with pages repeated), and all tables must then hold the same rows.

    shuffle.py [--deals 60] [--days 12] [--orders 4] [--seed 1] DATABASE

Needs a database with the extension and setup() done, and psql.  Accounts 1, 2, … are made in it, one an order.
Exit status 1 and the rows that differ where they do.
"""

import argparse
import json
import random
import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "amocrm"))

import render                                                   # noqa: E402
import school                                                   # noqa: E402
from population import history                                  # noqa: E402
from world import Shown                                         # noqa: E402

DAY = 86400

#: what amoCRM shows anew without a newer updated_at: which of two such versions is kept depends on what came last
UNDATED = {"deal": "raw - 'closest_task_at'", "contact": "raw #- '{_embedded,leads}'"}

TABLES = {
    "manager": "id, name, email, group_id, group_name, active, in_scope",
    "pipeline": "id, name, sort, is_main, is_archive", "status": "pipeline_id, id, name, sort, type, color",
    "stage_map": "pipeline_id, status_id, stage::text, by_user", "field_map": "field_id, field, by_user",
    "task_kind_map": "task_type_id, pattern, kind, by_user", "loss_reason": "id, name, sort",
    "custom_field": "id, name, type, entity_type, code, enums", "feed": "feed, since",
    "deal": "id, name, price, pipeline_id, stage::text, manager_id, created_at, updated_at, closed_at, deleted_at, is_deleted, "
            "lead_date, reason, pause_reason, meeting_at, return_on, agreed_at, signed_at, paid_at, skip_task_check, custom, "
            "status_id, source_name, tags, in_regulation, " + UNDATED["deal"],
    "task": "id, deal_id, kind, body, manager_id, created_at, by_bot, due_at, completed_at, result, task_type_id, updated_at, "
            "deleted_at, seen_completed_at, raw",
    "event": "id, deal_id, at, kind, by_bot, actor_id, from_stage::text, to_stage::text, answered, duration, channel, scenario, field, "
             "value, body, source, source_id, contact_id, talk_id, value_before, guessed, raw",
    "other_event": "source_id, type, entity_type, entity_id, at, actor_id, raw",
    "contact": "id, name, is_deleted, updated_at, " + UNDATED["contact"],
    "deal_contact": "deal_id, contact_id, is_main, is_company, seen_at, deleted_at",
    "quarantine": "entity, source_id, sqlstate, error, page, resolved_at",
}


def listed(name: str, path: str, rows: list, limit: int) -> list:
    """Pages of one list, as the API cuts them."""
    pages = []
    for start in range(0, len(rows), limit):
        number = start // limit + 1
        pages.append((name, {"_page": number, "_links": {"self": {"href": f"{render.HOST}/api/v4/{path}?limit={limit}&page={number}"}},
                             "_embedded": {name: rows[start:start + limit]}}))
    return pages


def pages_at(shown: Shown, limit: int) -> list:
    lists = shown.lists
    with_ = ("contacts", "loss_reason", "source_id", "source")
    alive = [thing for thing in lists["lead"] if not thing.shown["deleted"]]
    gone = [thing for thing in lists["lead"] if thing.shown["deleted"]]
    notes = {kind: [thing for thing in lists["note"] if thing.fixed["of"].kind == kind] for kind in ("lead", "contact", "company")}
    return [
        *listed("leads", "leads", [render.lead(thing, shown, with_) for thing in alive], limit),
        *listed("leads", "leads", [render.lead(thing, shown, ("contacts",)) for thing in alive[::3]], limit),
        *listed("leads", "leads", [render.lead(thing, shown) for thing in gone], limit),
        *listed("contacts", "contacts", [render.contact(thing, shown, ("leads",)) for thing in lists["contact"]], limit),
        *listed("tasks", "tasks", [render.task(thing) for thing in lists["task"]], limit),
        *(page for kind, things in notes.items()
          for page in listed("notes", f"{render.PLURAL[kind]}/notes", [render.note(thing) for thing in things], limit)),
        *listed("events", "events", [render.event(thing) for thing in lists["event"]], limit),
    ]


def all_pages(seed: int, deals: int, days: int, limit: int) -> list:
    start = int(datetime.combine(date(2026, 3, 2), datetime.min.time(), timezone.utc).timestamp()) - 3 * 3600
    world = history(seed, start, days, deals)
    pages = [
        ("account", render.account(("users_groups", "task_types", "datetime_settings"))),
        *listed("users", "users", [render.user(person) for person in school.USERS], 5),
        *listed("pipelines", "leads/pipelines", render.pipelines(), 250),
        *listed("loss_reasons", "leads/loss_reasons", [render.loss_reason(*reason) for reason in school.LOSS_REASONS], 2),
        *listed("custom_fields", "leads/custom_fields", [render.custom_field(field) for field in school.FIELDS.values()], 5),
        # what nobody can read
        ("leads", [{"name": "без номера"}, {"id": 1, "created_at": 10 ** 18}, "no object", {"id": "9000001", "created_at": "1767220000",
                   "updated_at": 1767220000, "status_id": "61000010", "pipeline_id": "7001001", "_embedded": []}]),
        ("events", [{"id": "x1", "type": "never_heard_of", "entity_id": 1, "entity_type": "lead", "created_at": 1767220000}]),
    ]
    for part in (2, 3):
        pages += pages_at(Shown(world, start + days * DAY * part // 3), limit)
    return pages


def psql(database: str, text: str) -> str:
    done = subprocess.run(["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"],
                          input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deals", type=int, default=60)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--orders", type=int, default=4)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("database")
    options = parser.parse_args()

    pages = all_pages(options.seed, options.deals, options.days, options.limit)
    # as dollar-quoted literals: the texts hold quotes and backslashes
    texts = [(entity, json.dumps(page, ensure_ascii=False)) for entity, page in pages]
    for order in range(1, options.orders + 1):
        rng = random.Random(options.seed * 1000 + order)
        turn = list(texts)
        if order > 1:
            rng.shuffle(turn)
        if order > 2:
            turn += rng.sample(turn, len(turn) // 2)
        script = [f"insert into regcrm.account (id, known_until) values ({order}, '-infinity');", "set client_min_messages = warning;"]
        script += [f"select regcrm.ingest({order}, '{entity}', $page${text}$page$);" for entity, text in turn]
        psql(options.database, "\n".join(script))

    differing = 0
    counts = []
    for table, columns in TABLES.items():
        count = psql(options.database, f"select count(*) from regcrm.{table} where account_id = 1;").strip()
        counts.append(f"{table} {count}")
        for order in range(2, options.orders + 1):
            def row(account: int) -> str:
                return (f"select to_jsonb(r)::text from (select {columns} from regcrm.{table} where account_id = {account}) r")
            for one, other, sign in ((1, order, "<"), (order, 1, ">")):
                rows = psql(options.database, f"({row(one)}) except all ({row(other)}) limit 3;").splitlines()
                if rows:
                    differing += 1
                    print(f"{table}, order {order}:")
                    for text in rows:
                        print(f"  {sign} {text[:1500]}")
    print(f"{len(pages)} pages in {options.orders} orders: {', '.join(counts)}")
    print("rows differ" if differing else "the same rows")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
