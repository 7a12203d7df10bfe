#!/usr/bin/python3
"""Every edge of the graph, generated from regcrm.transition: of all pairs of
stages, and of all stages to begin in, the legal ones commit when completed with
what they need, the illegal ones are refused at the statement as FLOW.

Prints TAP.  Connects by the usual PG* variables to a database with regcrm.
"""
from story import ACCOUNT, Bases, STAGES, Tap, attempt, breaches, completing, described, facts, move, sql, start, task

tap = Tap()
admin, writer = start()
bases = Bases(admin)
cur = admin.cursor()

cur.execute("select stage from regcrm.stage_def order by position")
stages = [r[0] for r in cur.fetchall()]
cur.execute("select from_stage::text, to_stage::text from regcrm.transition where regulation = 'idrive' and valid @> now()")
legal = set(cur.fetchall())
admin.commit()
tap.same(stages, STAGES, "the stages are those that histories are made for")
tap.ok(40 < len(legal) < 121, "the graph has its edges", len(legal))


def is_flow(refused, deal, there):
    return [what for what, right in [
        ("refused", refused is not None),
        ("at the statement", refused and refused.place == "statement"),
        ("sqlstate", refused and refused.sqlstate == "23514"),
        ("constraint", refused and refused.rule == "FLOW"),
        ("named alone", refused and refused.rules == ["FLOW"]),
        ("schema, table", refused and (refused.schema, refused.table) == ("regcrm", "deal")),
        ("column", refused and refused.column == "stage"),
        ("message", refused and "deal %d may not enter stage \"%s\"" % (deal, there) in refused.message),
        ("hint", refused and refused.hint),
    ] if not right]


for here in stages:
    ways = {t for f, t in legal if f == here}
    deal = bases.make(here)
    if not tap.same(breaches(admin, deal), [], "a clean history ends in %s" % here):
        continue
    cur.execute("select to_stage::text from regcrm.allowed_moves(%s, %s)", (ACCOUNT, deal))
    rows = [r[0] for r in cur.fetchall()]
    admin.commit()
    tap.same(sorted(set(rows)), sorted(ways), "allowed_moves from %s are the table's" % here)

    before = facts(admin, deal)
    refused = attempt(writer, deal, [move(here)])
    tap.ok(refused is None and facts(admin, deal) == before, "%s to itself is no move" % here, refused)

    for there in stages:
        if there == here:
            continue
        name = "%s to %s" % (here, there)
        acts = completing(here, there)
        if there in ways:
            # the move first, in the middle, last
            for place in (len(acts), 0, len(acts) // 2):
                deal = bases.make(here, comments=0)
                if there == "won" and here == "deciding":
                    # a contract needs a meeting before it
                    attempt(admin, deal, [sql("insert into regcrm.event (account_id, deal_id, at, kind, from_stage, to_stage) values"
                                              " (%(a)s, %(d)s, now() - interval '5 days', 'stage', 'deciding', 'meeting'),"
                                              " (%(a)s, %(d)s, now() - interval '5 days' + interval '1 second', 'stage', 'meeting', 'messaging'),"
                                              " (%(a)s, %(d)s, now() - interval '4 days', 'stage', 'messaging', 'deciding')")])
                refused = attempt(writer, deal, acts[:place] + [move(there)] + acts[place:])
                if not tap.ok(refused is None, "%s commits, the move as number %d" % (name, place), refused,
                              described(acts[:place] + [move(there)] + acts[place:])):
                    continue
                cur.execute("select stage::text from regcrm.deal where account_id = %s and id = %s", (ACCOUNT, deal))
                stands = cur.fetchone()[0]
                cur.execute("select count(*) from regcrm.event where account_id = %s and deal_id = %s and kind = 'stage'"
                            " and from_stage = %s::text::regcrm.stage and to_stage = %s::text::regcrm.stage and at > now() - interval '1 day'",
                            (ACCOUNT, deal, here, there))
                tap.same((stands, cur.fetchone()[0]), (there, 1), "%s: the deal stands there, by one event" % name)
                admin.commit()
        else:
            before = facts(admin, deal) if False else None
            deal = bases.make(here)
            before = facts(admin, deal)
            refused = attempt(writer, deal, acts + [move(there)])
            wrong = is_flow(refused, deal, there)
            tap.ok(not wrong, "%s is refused at the statement" % name, wrong, refused)
            tap.ok(facts(admin, deal) == before, "%s: nothing stays" % name)

begins = {t for f, t in legal if f is None}
for number, there in enumerate(stages):
    deal = 900000 + number
    insert = sql("insert into regcrm.deal (account_id, id, stage, manager_id, lead_date) values (%(a)s, %(d)s, %(p0)s::text::regcrm.stage, 1, now()::date)",
                 there)
    refused = attempt(writer, deal, [insert, task()])
    if there in begins:
        tap.ok(refused is None, "a deal may begin in %s" % there, refused)
        cur.execute("select kind, from_stage::text, to_stage::text from regcrm.event where account_id = %s and deal_id = %s and kind = 'stage'",
                    (ACCOUNT, deal))
        tap.same(cur.fetchall(), [("stage", None, there)], "and its first event says so")
    else:
        wrong = is_flow(refused, deal, there)
        tap.ok(not wrong, "no deal begins in %s" % there, wrong, refused)
    admin.commit()

tap.done()
