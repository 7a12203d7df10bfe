#!/usr/bin/python3
"""The same pages give the same rows, in whatever order and however often they are taken in.

One simulated account is read at two moments; beside it stand a few clients with several deals, about whom everything is
told piecemeal: versions of leads, contacts and tasks, links cut and made again, calls and messages that hang on contacts,
deals closed, opened, deleted and restored.  The pages are given to ingest() in several orders, each as an account of its
own and in a session of another time zone: as they come, shuffled, shuffled with half of them repeated.  Each table must
then hold the same rows for all accounts.  Prints TAP.  Connects by the usual PG* variables to a database with regcrm.

    ingest_order_test.py [--deals 60] [--days 12] [--orders 4] [--seed 1]
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

#: the first account; the others follow
FIRST = 8801

#: what sessions are set to, which must not matter
ZONES = (("UTC", "ISO, MDY"), ("Europe/Moscow", "German"), ("America/New_York", "SQL, MDY"), ("Asia/Kolkata", "Postgres, DMY"))

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
    pages += piecemeal(random.Random(seed), 12)
    for part in (2, 3):
        pages += pages_at(Shown(world, start + days * DAY * part // 3), limit)
    return pages


def piecemeal(rng: random.Random, clients: int) -> list:
    """Clients with several deals, as pages of a few elements each."""
    leads, contacts, tasks, notes, events = [], [], [], {"leads": [], "contacts": [], "companies": []}, []
    begin = 1772000000

    def moment() -> int:
        return begin + rng.randrange(40) * 1800 + rng.randrange(3) * 7

    def event(kind: str, of: str, id_: int, after: list = (), before: list = (), by: int = 0) -> None:
        events.append({"id": f"p{len(events)}", "type": kind, "entity_id": id_, "entity_type": of, "created_by": by,
                       "created_at": moment(), "value_after": list(after), "value_before": list(before)})

    def status() -> dict:
        return {"id": rng.choice([*(id_ for id_, _ in school.STAGES.values()), school.UNMAPPED]), "pipeline_id": school.SALES}

    managers = [person.id for person in school.MANAGERS[:3]]
    for number in range(clients):
        contact, company, talk = 8_900_000 + number, 7_900_000 + number % 3, 5900 + number % 7
        mine = [9_900_000 + 10 * number + n for n in range(rng.randint(1, 3))]
        for lead in mine:
            created = moment()
            for version in range(rng.randint(1, 3)):
                now, embedded = status(), {"tags": [{"name": f"t{version}"}]}
                if rng.random() < .8:
                    embedded["contacts"] = [{"id": id_, "is_main": id_ == contact} for id_ in (contact, contact + 1) if rng.random() < .7]
                if rng.random() < .5:
                    embedded["companies"] = [{"id": company}]
                # no two versions of one second
                updated = created + version * 20000 + rng.randrange(20000)
                leads.append({"id": lead, "name": f"v{version}", "status_id": now["id"], "pipeline_id": now["pipeline_id"],
                              "responsible_user_id": rng.choice(managers), "created_at": created, "updated_at": updated,
                              "closed_at": updated - 5 if now["id"] in (142, 143) else None, "custom_fields_values": rng.choice([None, [
                                  render.field_value(school.FIELDS["paid_at"].id, True),
                                  render.field_value(school.FIELDS["lead_date"].id, created)]]), "_embedded": embedded})
            for _ in range(rng.randint(0, 3)):
                event("lead_status_changed", "lead", lead, [{"lead_status": status()}], [{"lead_status": status()}])
            if rng.random() < .3:
                event("entity_responsible_changed", "lead", lead, [{"responsible_user": {"id": managers[0]}}], [{"responsible_user": {"id": managers[1]}}])
            for kind in ("lead_deleted", "lead_restored"):
                if rng.random() < .2:
                    event(kind, "lead", lead)
            if rng.random() < .2:
                leads.append({"id": lead, "is_deleted": True, "updated_at": moment(), "created_at": None, "_embedded": []})
            for kind in ("entity_linked", "entity_unlinked"):
                if rng.random() < .3:
                    event(kind, "lead", lead, [{kind[7:-2].rstrip("e"): {"entity": {"type": "contact", "id": contact}}}])
            field = school.FIELDS["paid_at"].id
            for text in rng.sample((["1"], []), rng.randint(0, 2)):
                event(f"custom_field_{field}_value_changed", "lead", lead,
                      [{"custom_field_value": {"field_id": field, "field_type": 3, "enum_id": None, "text": t}} for t in text])
            task = 6_900_000 + len(tasks)
            for version in range(rng.randint(0, 2)):
                tasks.append({"id": task, "created_by": rng.choice([0, managers[0]]), "created_at": created, "updated_at": created + 60 + 5000 * version,
                              "entity_id": lead, "entity_type": "leads", "is_completed": version == 1, "text": rng.choice(["Перезвонить", "договор"]),
                              "complete_till": created + 9000, "result": []})
            if rng.random() < .3:
                event(rng.choice(["task_completed", "task_deleted"]), "task", task)
        for version in range(rng.randint(0, 2)):
            contacts.append({"id": contact, "name": f"Клиент {version}", "created_at": begin, "updated_at": begin + 30000 * version + rng.randrange(30000),
                             "_embedded": {"leads": [{"id": lead} for lead in mine if rng.random() < .7]}})
        for _ in range(6):
            of, id_ = rng.choice([("contacts", contact), ("companies", company), ("leads", mine[0])])
            notes[of].append({"id": 5_900_000 + sum(map(len, notes.values())), "entity_id": id_, "created_by": rng.choice([0, school.TELEPHONY.id, *managers]),
                              "responsible_user_id": rng.choice(managers), "created_at": moment(), "updated_at": moment(),
                              "note_type": rng.choice(["call_in", "call_out", "common", "sms_out"]),
                              "params": {"duration": rng.randrange(60), "text": "слова"}})
        for _ in range(8):
            of, id_ = rng.choice([("contact", contact), ("contact", contact), ("lead", rng.choice(mine))])
            event(rng.choice(["incoming_chat_message", "outgoing_chat_message"]), of, id_,
                  [{"message": {"id": "m", "origin": "waba", "talk_id": rng.choice([talk, None])}}], by=rng.choice([0, 0, managers[0]]))

    pages = []
    for name, path, rows in (("leads", "leads", leads), ("contacts", "contacts", contacts), ("tasks", "tasks", tasks), ("events", "events", events),
                             *(("notes", f"{of}/notes", found) for of, found in notes.items())):
        rng.shuffle(rows)
        pages += listed(name, path, rows, 7)
    return pages


def psql(text: str) -> str:
    done = subprocess.run(["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-f", "-"],
                          input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        print("Bail out! " + done.stderr[-3000:].replace("\n", "\n# "))
        sys.exit(1)
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deals", type=int, default=60)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--orders", type=int, default=4)
    parser.add_argument("--limit", type=int, default=50)
    options = parser.parse_args()

    psql("create extension if not exists regcrm; select regcrm.setup();")
    pages = all_pages(options.seed, options.deals, options.days, options.limit)
    # dollar-quoted below: the texts hold quotes and backslashes
    texts = [(entity, json.dumps(page, ensure_ascii=False)) for entity, page in pages]
    accounts = range(FIRST, FIRST + options.orders)
    for account in accounts:
        rng = random.Random(options.seed * 1000 + account)
        turn = list(texts)
        if account > FIRST:
            rng.shuffle(turn)
        if account > FIRST + 1:
            turn += rng.sample(turn, len(turn) // 2)
        script = [f"insert into regcrm.account (id, known_until) values ({account}, '-infinity');", "set client_min_messages = warning;",
                  f"set timezone = '{ZONES[account % len(ZONES)][0]}'; set datestyle = '{ZONES[account % len(ZONES)][1]}';"]
        script += [f"select regcrm.ingest({account}, '{entity}', $page${text}$page$);" for entity, text in turn]
        psql("\n".join(script))

    failed = 0
    for number, (table, columns) in enumerate(TABLES.items(), 1):
        def rows(account: int) -> str:
            return f"select to_jsonb(r)::text from (select {columns} from regcrm.{table} where account_id = {account}) r"

        count = int(psql(f"select count(*) from regcrm.{table} where account_id = {FIRST};"))
        differ = []
        for account in accounts[1:]:
            for one, other, sign in ((FIRST, account, "only in order"), (account, FIRST, f"only in shuffle {account - FIRST}:")):
                differ += [f"# {sign} {text[:1000]}" for text in psql(f"({rows(one)}) except all ({rows(other)}) limit 3;").splitlines()]
        good = count > 0 and not differ
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {table}: {count} rows of {len(pages)} pages in {options.orders} orders")
        print("\n".join(differ), end="\n" if differ else "")
    print(f"1..{len(TABLES)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
