"""Space of the facts with all indexes, beside the same rows in plain tables (no index, no key)."""
import generate
from lib import connect, row, scaled


def run():
    database = generate.warehouse(scaled(1_000_000, 2000))
    total = plain = 0
    with connect(database) as cur:
        for table in ("deal", "event", "task"):
            cur.execute("drop table if exists plain_copy")
            cur.execute("create table plain_copy as table regcrm." + table)
            cur.execute("vacuum plain_copy")
            cur.execute("select pg_total_relation_size(%s), pg_total_relation_size('plain_copy'), (select string_agg(indexrelid::regclass || ' ' || "
                        "pg_size_pretty(pg_relation_size(indexrelid)), ', ') from pg_index where indrelid = %s::regclass)", ("regcrm." + table,) * 2)
            ours, theirs, indexes = cur.fetchone()
            row("space of %s with all indexes" % table, "the same rows in a plain table", ours / 1e6, theirs / 1e6, "MB", "%.2f" % (ours / theirs), "", None, indexes)
            total, plain = total + ours, plain + theirs
            cur.execute("drop table plain_copy")
    row("space of deal, event, task with all indexes", "the same rows in plain tables", total / 1e6, plain / 1e6, "MB", "%.2f" % (total / plain),
        "≤ 1.8 ×", total <= 1.8 * plain)
