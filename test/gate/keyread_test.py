"""Rows that are read without SQL (src/keyread.c) are those that SQL would show.

What the gate and judge() find must not depend on how rows are reached: with dead rows in the indexes, with our indexes dropped, with
a table that has children, and for a reader who may see some rows or columns only.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from story import Tap, connect, start             # noqa: E402

DEALS = 40
tap = Tap()


def judged(cur, deal=1):
    cur.execute("select rule, task_id, arose_at, met_at, state, evidence::text from regcrm.judge(1, %s) order by 1, 2, 3", (deal,))
    return cur.fetchall()


def load(cur):
    """A talk, a comment and a scenario in each deal; the deals are called deal by deal, in one order by id and another by time."""
    cur.execute("""
        insert into regcrm.deal (account_id, id, stage, manager_id, created_at, lead_date, reason)
            select 1, n, 'new', 1, now() - interval '2 days' - n * interval '1 min', '2026-01-01', 'r' || n from generate_series(1, %(n)s) n;
        insert into regcrm.event (account_id, deal_id, at, kind, actor_id, answered, body, scenario)
            select 1, n, now() - interval '47 h' - n * interval '1 min', kind, 1, true, repeat('x', n), 'in_work'
            from generate_series(%(n)s, 1, -1) n, unnest('{call_out,comment,scenario,comment}'::text[]) kind""", {"n": DEALS})


def main():
    admin, writer = start()
    cur = admin.cursor()
    load(cur)
    admin.commit()
    before = {deal: judged(cur, deal) for deal in (1, 7, DEALS)}
    tap.ok(all(before.values()), "deals have findings")

    # dead rows: an index marks them as it meets them, and keeps note of that from row to row
    for _ in range(3):
        cur.execute("update regcrm.event set body = body || 'y', at = at + interval '1 us' where account_id = 1 and kind = 'comment'")
        admin.commit()
        cur.execute("delete from regcrm.task where account_id = 1")
        cur.execute("insert into regcrm.task (account_id, deal_id, kind, manager_id, created_at, due_at)"
                    " select 1, n, 'other', 1, now() - interval '1 h', now() + interval '1 day' from generate_series(1, %s) n", (DEALS,))
        admin.commit()
    acts = writer.cursor()
    acts.execute("insert into regcrm.event (account_id, deal_id, kind, actor_id, body) select 1, n, 'comment', 1, 'x' from generate_series(1, %s) n", (DEALS,))
    writer.commit()
    acts.execute("update regcrm.deal set reason = reason || 'z' where account_id = 1")
    writer.commit()
    cur.execute("select changed from regcrm.rejudge(1)")
    tap.same(cur.fetchone()[0], 0, "many deals with dead rows are judged at commit as rejudge() judges them")
    admin.commit()

    # the row that is written last, by the statement that commits: nothing comes between it and the judging
    admin.autocommit = True
    cur.execute("update regcrm.deal set is_deleted = true, deleted_at = created_at + interval '1 min' where account_id = 1 and id = 9")
    cur.execute("select changed from regcrm.rejudge(1)")
    tap.same(cur.fetchone()[0], 0, "what a statement outside of a transaction writes is judged as it has written it")
    admin.autocommit = False

    # without our index, another way
    now = judged(cur, 7)
    cur.execute("drop index regcrm.event_deal_idx, regcrm.task_deal_idx")
    tap.same(judged(cur, 7), now, "without the indexes judge() finds the same")
    admin.rollback()
    tap.same(judged(cur, 7), now, "and with them again")

    # an index that leaves rows out, or is sorted by something else, is no way
    cur.execute("drop index regcrm.event_deal_idx")
    cur.execute("create index on regcrm.event (account_id, deal_id) where kind = 'comment'")
    cur.execute("create index on regcrm.event (account_id, (deal_id + 1))")
    tap.same(judged(cur, 7), now, "indexes with a condition or an expression are not used for it")
    admin.rollback()

    # children
    cur.execute("create table public.old_event () inherits (regcrm.event)")
    cur.execute("with gone as (delete from only regcrm.event where deal_id = 7 and kind = 'call_out' returning *) insert into public.old_event select * from gone")
    tap.same(judged(cur, 7), now, "rows of a child table count")
    admin.rollback()

    # columns that change places
    cur.execute("set local regcrm.mode = 'off'")
    cur.execute("alter table regcrm.next_moment add column at_again timestamptz; update regcrm.next_moment set at_again = at;"
                " alter table regcrm.next_moment drop column at; alter table regcrm.next_moment rename at_again to at")
    cur.execute("set local regcrm.mode = 'record'")
    cur.execute("select changed from regcrm.judge_deals(1, array[1, 7, 9])")
    tap.same(cur.fetchone()[0], 0, "columns are found where they are now")
    admin.rollback()

    # rights
    cur.execute("create role keyread_some nosuperuser; grant usage on schema regcrm to keyread_some;"
                " grant select on all tables in schema regcrm to keyread_some;"
                " grant execute on function regcrm.judge(bigint, bigint, timestamptz) to keyread_some; revoke all on regcrm.secret from keyread_some")
    admin.commit()
    some = connect(role="keyread_some")
    reader = some.cursor()
    tap.same(judged(reader, 7), now, "whoever may select finds the same")
    some.rollback()
    cur.execute("alter table regcrm.event enable row level security; create policy mine on regcrm.event to keyread_some using (kind <> 'call_out')")
    admin.commit()
    hidden = judged(reader, 7)
    tap.ok(hidden != now, "row security hides rows from judge()")
    some.rollback()
    tap.same(judged(cur, 7), now, "but not from a superuser")
    cur.execute("drop policy mine on regcrm.event; alter table regcrm.event disable row level security; revoke select on regcrm.event from keyread_some")
    admin.commit()
    try:
        judged(reader, 7)
        refused = None
    except Exception as error:
        refused = error.pgcode
    tap.same(refused, "42501", "without the right to select, judge() refuses")
    some.rollback()


if __name__ == "__main__":
    main()
    tap.done()
