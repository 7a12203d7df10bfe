#!/usr/bin/python3
"""A page costs the database no more in an account of many leads than in one of few.

One session takes pages of leads and of events into an empty account, as a first load does; nothing gathers statistics
meanwhile.  Counted are the blocks of regcrm's tables and indexes that each page looks at.  Prints TAP.  Connects by the
usual PG* variables to a database with regcrm.
"""

import json
import subprocess
import sys

ACCOUNT = 8701
SIZE = 100
PAGES = 150

#: pages of which the mean is taken: when tables hold something, and at the end
EARLY = range(8, 14)
LATE = range(PAGES - 6, PAGES)


def lead(n: int) -> dict:
    at = 1_760_000_000 + 60 * n
    return {"id": 1000 + n, "name": f"Заявка {n}", "price": n, "responsible_user_id": 5, "status_id": 61000014, "pipeline_id": 7001001,
            "created_at": at, "updated_at": at + 30, "custom_fields_values": [
                {"field_id": 720001, "field_name": "Дата создания лида", "field_type": "date", "values": [{"value": at}]}],
            "_embedded": {"tags": [], "contacts": [{"id": 500_000 + n, "is_main": True}], "companies": []}}


def event(n: int) -> dict:
    of = 1000 + n // 2
    at = 1_760_000_000 + 60 * (n // 2) + 5
    base = {"id": f"e{n:09d}", "entity_id": of, "entity_type": "lead", "created_by": 5, "created_at": at, "value_before": []}
    if n % 2:
        return {**base, "type": "outgoing_chat_message", "created_by": 0, "value_after": [{"message": {"id": f"m{n}", "talk_id": n}}]}
    return {**base, "type": "lead_status_changed", "value_after": [{"lead_status": {"id": 61000014, "pipeline_id": 7001001}}],
            "value_before": [{"lead_status": {"id": 61000012, "pipeline_id": 7001001}}]}


def main() -> None:
    count = ("SELECT pg_stat_force_next_flush();\nSELECT 'blocks ' || sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))"
             " FROM pg_catalog.pg_statio_all_tables WHERE schemaname = 'regcrm';\n")
    script = f"INSERT INTO regcrm.account (id, name, known_until) VALUES ({ACCOUNT}, 'grows', '-infinity');\n" + count
    for name, make in (("leads", lead), ("events", event)):
        for page in range(PAGES):
            body = json.dumps([make(n) for n in range(page * SIZE, page * SIZE + SIZE)], ensure_ascii=False).replace("'", "''")
            script += f"SELECT FROM regcrm.ingest({ACCOUNT}, '{name}', '{body}');\n" + count
    out = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1"], input=script, capture_output=True, text=True, check=False)
    if out.returncode:
        print(f"Bail out! {out.stderr}")
        sys.exit(1)
    totals = [int(line.split()[1]) for line in out.stdout.splitlines() if line.startswith("blocks ")]
    blocks = [after - before for before, after in zip(totals, totals[1:])]
    failed = 0
    print("1..2")
    for number, name in enumerate(("leads", "events")):
        own = blocks[number * PAGES:(number + 1) * PAGES]
        early, late = (sum(own[i] for i in which) / len(which) for which in (EARLY, LATE))
        # trees of indexes grow by a level now and then
        good = len(blocks) == 2 * PAGES and 0 < late < 1.5 * early
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number + 1} - a page of {SIZE} {name} costs no more at the end: {early:.0f} blocks after {EARLY[0]} pages, {late:.0f} after {LATE[0]}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
