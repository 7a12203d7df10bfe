#!/usr/bin/python3
"""Row security: a manager sees his own, a head sees all, through every view.

What each role sees is compared with what a superuser sees, row for row in one
transaction: of views with a deal the rows of own deals (and, where a view is of
duties, tasks or violations, those of his own besides), of views with sums his
own figures unchanged.  Writing, judging and functions go the same way.  Prints TAP.
"""
import psycopg2

from story import ACCOUNT, Tap, connect

tap = Tap()
admin = connect(mode="record")
admin.autocommit = True
cur = admin.cursor()
cur.execute("set jit = off")


def ask(text, *args):
    cur.execute(text, args or None)
    return cur.fetchall() if cur.description else None


def one(text, *args):
    return ask(text, *args)[0][0]


class As:
    """with As("anna"): as that role, in a transaction that is rolled back."""

    def __init__(self, role, mode="record"):
        self.role = role
        self.mode = mode

    def __enter__(self):
        ask("begin")
        ask("set local regcrm.mode = " + self.mode)
        ask("set local role " + self.role)

    def __exit__(self, *error):
        ask("rollback")


def fails(role, statement, mode="enforce", immediate=True):
    """(SQLSTATE, message) of a statement as a role, rolled back; None = it succeeds."""
    with As(role, mode):
        try:
            ask(statement)
            if immediate:
                ask("set constraints all immediate")
            return None
        except psycopg2.Error as error:
            return error.pgcode, error.diag.message_primary


# ---- an account of two managers, and one of a third ----

ask("insert into regcrm.account (id, name, calendar, known_from) values (1, 'one', null, '2020-01-01'), (2, 'two', null, '2020-01-01') on conflict do nothing")
ask("insert into regcrm.manager (account_id, id, name) values (1, 1, 'Анна'), (1, 2, 'Борис'), (2, 1, 'Вера'), (2, 2, 'Глеб'), (1, 3, 'Дина') on conflict do nothing")
ask("""insert into regcrm.deal (account_id, id, name, stage, manager_id, created_at, price)
    select 1 + n % 2, n, 'deal ' || n, 'new', 1 + n / 2 % 2, date_trunc('hour', now()) - interval '20 days' + n * interval '5 hours', 100
    from generate_series(1, 40) n""")
ask("""insert into regcrm.event (account_id, deal_id, at, kind, actor_id, answered, duration, body)
    select d.account_id, d.id, d.created_at + k.late, k.kind, d.manager_id, true, '2 min', 'слово ' || d.id
    from regcrm.deal d, (values ('call_out', interval '20 min'), ('message_in', '30 min'), ('comment', '31 min')) k(kind, late) where d.id % 3 > 0""")
ask("""insert into regcrm.event (account_id, deal_id, at, kind, actor_id, from_stage, to_stage)
    select d.account_id, d.id, d.created_at + interval '1 hour', 'stage', d.manager_id, 'new', 'in_work' from regcrm.deal d where d.id % 3 = 1
    union all select d.account_id, d.id, d.created_at + interval '3 hours', 'stage', d.manager_id, 'in_work', 'lost' from regcrm.deal d where d.id % 9 = 1""")
ask("update regcrm.deal set reason = 'дорого' where stage = 'lost'")
ask("""insert into regcrm.task (account_id, deal_id, kind, manager_id, created_at, due_at, completed_at)
    select d.account_id, d.id, 'callback', d.manager_id, d.created_at + interval '4 hours', now() + interval '3 days', case when d.id % 4 = 0 then d.created_at + interval '9 hours' end
    from regcrm.deal d where d.stage = 'in_work'""")
ask("insert into regcrm.contact (account_id, id, name) select account_id, 1000 + id, 'клиент ' || id from regcrm.deal")
ask("insert into regcrm.deal_contact (account_id, deal_id, contact_id) select account_id, id, 1000 + id from regcrm.deal")
ask("insert into regcrm.quarantine (account_id, entity, error) values (1, 'leads', 'x')")
ask("insert into regcrm.other_event (account_id, source_id, type, entity_type, entity_id) values (1, 'a', 'x', 'lead', 2)")
# some deals were handed over long after they were broken
ask("update regcrm.deal set manager_id = 3 - manager_id where account_id = 1 and id in (2, 8, 12)")
ask("select regcrm.rejudge()")
for _ in range(2):
    ask("call regcrm.refresh_marts()")
tap.ok(one("select count(*) from regcrm.mart_duty") > 20, "marts are kept", one("select count(*) from regcrm.mart_duty"))

MANAGERS = {"anna": (1, 1), "boris": (1, 2)}
for role in list(MANAGERS) + ["gleb", "head", "head_one", "chiefs", "deputy", "bi", "engineer", "owner_of_rules", "twice"]:
    ask("create role rs_" + role)
    ask("select regcrm.grant_access(%s, %s)", "rs_" + role, {"bi": "reader", "engineer": "operator", "owner_of_rules": "admin"}.get(role, "writer"))
for role, (account, user) in MANAGERS.items():
    ask("select regcrm.map_manager(%s, %s, %s)", "rs_" + role, account, user)
ask("select regcrm.map_manager('rs_gleb', 2, 2)")
# user 1 there and user 2 here is neither user 1 here nor user 2 there
ask("select regcrm.map_manager('rs_twice', 2, 1)")
ask("select regcrm.map_head('rs_head'), regcrm.map_head('rs_head_one', 1), regcrm.map_head('rs_chiefs')")
ask("grant rs_chiefs to rs_deputy")

views = dict(ask("""select c.relname::text, array_agg(a.attname::text) from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    where c.relnamespace = 'regcrm'::regnamespace and c.relkind = 'v' group by 1 order by 1"""))
tables = [r[0] for r in ask("select c.relname::text from pg_class c where c.relnamespace = 'regcrm'::regnamespace and c.relkind = 'r' and c.relname not in ('secret', 'inbox', 'access', 'head', 'worker_switch', 'quarantine') order by 1")]


def rows(relation, where="true"):
    # whether processes run is not for everybody to see, and no row of ours
    return sorted(r[0] for r in ask("select (to_jsonb(x) - '{sync_runs,clock_runs}'::text[])::text from regcrm.%s x where %s" % (relation, where)))


# ---- off by default ----

with As("rs_bi"):
    tap.same(one("select count(*) from regcrm.deal"), 40, "while it is off, who may read reads all")

notices = len(admin.notices)
ask("set client_min_messages = notice")
ask("select regcrm.enable_row_security()")
ask("reset client_min_messages")
told = "".join(admin.notices[notices:])
tap.ok("rs_bi" in told and "rs_anna" not in told and "rs_head" not in told and "rs_deputy" not in told and "rs_engineer" not in told, "enable_row_security() names who sees no deals now", told)

# ---- whole views ----

differ = {role: [] for role in ("rs_head", "rs_deputy", "rs_engineer", "rs_owner_of_rules")}
ask("begin")
for relation in list(views) + tables:
    all_rows = rows(relation)
    for role in differ:
        ask("set local role " + role)
        if rows(relation) != all_rows:
            differ[role].append(relation)
        ask("reset role")
ask("rollback")
for role in differ:
    tap.same(differ[role], [], "%s sees all, through every view" % role)

with As("rs_bi"):
    seen = [v for v, columns in views.items() if "deal_id" in columns and rows(v)] + [t for t in ("deal", "event", "task", "violation", "deadline", "contact", "mart_duty") if rows(t)]
    tap.same(seen, [], "who is neither manager nor head sees nothing")
with As("rs_head_one"):
    tap.same(ask("select distinct account_id from regcrm.deal union select account_id from regcrm.violations"), [(1,)], "a head of one account sees that")
with As("rs_twice"):
    tap.same(ask("select distinct account_id, manager_id from regcrm.deal"), [(2, 1)], "a manager of one account is nobody in another")
ask("select regcrm.map_manager('rs_twice', 1, 3)")
ask("insert into regcrm.deal (account_id, id, stage, manager_id) values (2, 777, 'new', 3), (1, 778, 'new', 3)")
with As("rs_twice"):
    tap.same(sorted(ask("select distinct account_id, manager_id from regcrm.deal")), [(1, 3), (2, 1)], "of two accounts he sees the one user here and the other there, and no mixture")
ask("set regcrm.mode = 'off'")
ask("delete from regcrm.deal where id in (777, 778)")
for table in ("event", "task", "deadline", "violation"):
    ask("delete from regcrm.%s where deal_id in (777, 778)" % table)
ask("set regcrm.mode = 'record'")
ask("select regcrm.rejudge()")

# ---- a manager's ----

OWN_TOO = {"violations", "open_violations", "duties", "duties_daily", "upcoming_deadlines", "due_soon", "tasks_closed", "rule_deals"}
for name, (account, user) in MANAGERS.items():
    role = "rs_" + name
    deals = one("select array_agg(id) from regcrm.deal where account_id = %s and manager_id = %s", account, user)
    ask("begin")
    foreign, fewer, compared = [], [], 0
    for view, columns in views.items():
        if "deal_id" not in columns:
            continue
        mine = "account_id = %d and deal_id = any ('{%s}')" % (account, ",".join(map(str, deals)))
        ask("reset role")
        his, rest = rows(view, mine), rows(view)
        ask("set local role " + role)
        seen = rows(view)
        compared += len(seen)
        if not set(his) <= set(seen):
            fewer.append((view, sorted(set(his) - set(seen))[:1], sorted(set(seen) - set(his))[:1]))
        if view == "deal_timeline":
            # lines of his own tasks and breaches
            bad = one("select count(*) from regcrm.deal_timeline x where not (%s) and not exists (select from regcrm.task t where t.deal_id = x.deal_id and t.manager_id = %d)"
                      " and not exists (select from regcrm.violation v where v.deal_id = x.deal_id and v.manager_id = %d)" % (mine, user, user))
        elif view in OWN_TOO:
            bad = one("select count(*) from regcrm.%s where not (%s) and %s" % (view, mine, "manager_id is distinct from %d or account_id <> %d" % (user, account)))
        else:
            bad = one("select count(*) from regcrm.%s where not (%s)" % (view, mine))
        if bad:
            foreign.append((view, bad))
    ask("rollback")
    tap.same(foreign, [], "%s sees nothing of others' deals in any view" % name)
    tap.same(fewer, [], "... and of his own deals what a superuser sees, row for row")
    tap.ok(compared > 300, "... which is something", compared)
    ask("begin")
    differ, compared = [], 0
    for view in ("manager_scorecard", "manager_weekly", "violations_weekly", "duty_counts", "duty_counts_live", "tidy_up_daily"):
        ask("reset role")
        his = rows(view, "account_id = %d and manager_id = %d" % (account, user))
        ask("set local role " + role)
        compared += len(his)
        if rows(view, "account_id = %d and manager_id = %d" % (account, user)) != his:
            differ.append(view)
    tap.ok(not differ and compared > 30, "%s's own figures are what everybody sees of him, though sums are hidden" % name, differ, compared)
    tap.same([t for t in ("mart_duty", "mart_state", "mart_dirty", "other_event", "wanted", "reconciliation", "forgotten_part") if rows(t)], [], "sums and what hangs on no deal he does not see")
    tap.same(one("select count(entity) from regcrm.quarantine"), 0, "nor that something lies in quarantine")
    tap.same(sorted(one("select array_agg(id - 1000) from regcrm.contact")), sorted(deals), "contacts of his deals, and no others")
    ask("rollback")
    handed = ask("select id from regcrm.violation where manager_id = %s and account_id = %s and not deal_id = any (%s)", user, account, deals)
    with As(role):
        tap.ok(handed and set(handed) <= set(ask("select id from regcrm.violation")), "%s still sees his own breaches on deals handed over" % name, handed)

# ---- functions that answer ----

anna = one("select array_agg(id order by id) from regcrm.deal where account_id = 1 and manager_id = 1 and stage = 'in_work'")
boris = one("select array_agg(id order by id) from regcrm.deal where account_id = 1 and manager_id = 2 and stage = 'in_work'")
his, other = anna[0], boris[0]
for call, of in [("judge(1, %d)", "P0002"), ("deal_story(1, %d)", None), ("check_move(1, %d, 'meeting')", "P0002"), ("allowed_moves(1, %d)", "P0002")]:
    ask("begin")
    try:
        whole = ask("select x::text from regcrm.%s x" % (call % his))
        ask("set local role rs_anna")
        tap.ok(ask("select x::text from regcrm.%s x" % (call % his)) == whole and whole, "%s of an own deal says what it says to all" % call.split("(")[0])
    finally:
        ask("rollback")
    hidden, missing = fails("rs_anna", "select * from regcrm." + call % other), fails("rs_anna", "select * from regcrm." + call % 555555)
    tap.ok(hidden == missing or of and hidden[0] == missing[0] == of and hidden[1].replace(str(other), "N") == missing[1].replace("555555", "N"),
           "... and of another's, that there is none", hidden, missing)
with As("rs_anna"):
    tap.same(ask("select x from regcrm.deal_story(1, %d) x" % other), [], "deal_story() of another's deal is empty")
    tap.same(ask("select manager_id, deals from regcrm.response_time(1) where manager_id is not null"), ask("select 1::bigint, count(*) from regcrm.deal"), "response_time() counts his deals only")
    tap.same(one("select count(distinct deal_id) from regcrm.replay(1, 'idrive')"), one("select count(*) from regcrm.deal"), "replay() judges his deals only")

# ---- writing ----

EVENT = "insert into regcrm.event (account_id, deal_id, kind, answered) values (1, %d, 'call_out', true)"
TASK = "insert into regcrm.task (account_id, deal_id, manager_id, due_at) values (1, %d, 1, now() + interval '1 day')"
for statement in (EVENT, TASK):
    tap.same(fails("rs_anna", statement % his, mode="enforce"), None, "a fact of an own deal is written")
    for deal in (other, 555555):
        refused = fails("rs_anna", statement % deal)
        tap.ok(refused is not None and refused[0] == "42501" and str(deal) not in refused[1] and "row-level security" in refused[1], "... of another's, or of none, is refused alike", refused)
with As("rs_anna", mode="enforce"):
    tap.same([one("with x as (update regcrm.%s returning 1) select count(*) from x" % s) for s in
              ("deal set name = 'x' where id = %d" % other, "task set body = 'x' where deal_id = %d" % other, "event set body = 'x' where deal_id = %d" % other)], [0, 0, 0], "rows of others are not there to be changed")
tap.same((fails("rs_anna", "update regcrm.deal set manager_id = 2 where id = %d" % his) or [None])[0], "42501", "nobody hands a deal over whom it then would not belong to")
tap.same(fails("rs_head", "update regcrm.deal set manager_id = 2 where id = %d" % his), None, "a head does")
tap.same(fails("rs_anna", "insert into regcrm.deal (account_id, stage, manager_id) values (1, 'new', 1)"), None, "a new deal of his own")
tap.same((fails("rs_anna", "insert into regcrm.deal (account_id, stage, manager_id) values (1, 'new', 2)") or [None])[0], "42501", "... but not of another")
refused = fails("rs_anna", "update regcrm.deal set stage = 'won' where id = %d" % his)
tap.ok(refused is not None and refused[0] == "23514", "the gate judges him as all", refused)
tap.same(fails("rs_anna", "select regcrm.choose_scenario(1, %d, 'lost', '{\"reason\": \"дорого\"}', 'нет')" % other)[0], "P0002", "choose_scenario() of another's deal: there is none")

# what is hidden from him is judged all the same
ask("create policy hide on regcrm.task as restrictive for select to rs_anna using (false)")
ask("create policy hide on regcrm.event as restrictive for select to rs_anna using (false)")
same = [fails(who, "update regcrm.deal set stage = 'deciding' where id = %d" % his, mode="enforce") for who in ("rs_head", "rs_anna")]
tap.ok(same[0] == same[1], "a move is judged by all facts of the deal, whoever may see them", *same)
with As("rs_anna", mode="enforce"):
    seen = ask("select count(*) from regcrm.event"), ask("select m.rule from regcrm.check_move(1, %d, 'deciding') m order by 1" % his)
with As("rs_head", mode="enforce"):
    whole = ask("select m.rule from regcrm.check_move(1, %d, 'deciding') m order by 1" % his)
tap.ok(seen == ([(0,)], whole), "... check_move() too", seen, whole)
ask("drop policy hide on regcrm.task")
ask("drop policy hide on regcrm.event")

# ---- what runs as the owner sees all ----

with As("rs_engineer"):
    tap.same(one("select (regcrm.rejudge(1)).deals"), 20, "rejudge() judges all")
    tap.same(one("select regcrm.ingest(1, 'users', '{\"_embedded\": {\"users\": [{\"id\": 9, \"name\": \"x\"}]}}')::text"), "(1,0)", "ingest() takes a page")
    tap.same(ask("call regcrm.refresh_marts()")[0][0] is not None, True, "refresh_marts() counts")
tap.same((fails("rs_owner_of_rules", "delete from regcrm.stage_def where stage = 'in_work'") or [None])[0], "23503", "what is in use is in use, whoever sees it")
tap.same(one("select count(*) from regcrm.deal"), 40, "the owner sees all")

# ---- cost: functions are asked once a statement, indexes serve ----

ask("set track_functions = 'all'")
ask("set regcrm.mode = 'off'")
ask("insert into regcrm.deal (account_id, id, stage, manager_id, created_at) select 1, 10000 + n, 'new', 100 + n % 200, now() from generate_series(1, 20000) n")
ask("insert into regcrm.event (account_id, deal_id, kind, at) select 1, 10000 + n, 'call_in', now() from generate_series(1, 20000) n")
ask("set regcrm.mode = 'record'")
ask("analyze regcrm.deal, regcrm.event")
with As("rs_anna"):
    plan = "\n".join(r[0] for r in ask("explain (costs off) select * from regcrm.deal"))
    tap.ok("deal_manager_idx" in plan and "Seq Scan on deal" not in plan, "own deals are found by an index", plan)
    plan = "\n".join(r[0] for r in ask("explain (costs off) select * from regcrm.event where account_id = 1 and deal_id = %d" % his))
    tap.ok("event_deal_idx" in plan, "a deal's events too", plan)
for query in ("select count(*) from regcrm.deal", "select count(*) from regcrm.event", "select count(*) from regcrm.violations"):
    with As("rs_anna"):
        ask(query)
        ask("reset role")
        calls = one("select coalesce(max(calls), 0) from pg_stat_xact_user_functions where schemaname = 'regcrm' and funcname in ('own_users', 'own_accounts', 'seen_accounts')")
        tap.ok(0 < calls <= 12, "%s asks whose rows they are a few times, not once a row" % query, calls)
ask("set regcrm.mode = 'off'")
ask("delete from regcrm.deal where id > 10000")
ask("delete from regcrm.event where deal_id > 10000")
ask("set regcrm.mode = 'record'")

# who becomes a head, and who is one no more
ask("create role rs_late")
ask("insert into regcrm.manager (account_id, id, name) values (1, 4, 'Ева')")
ask("select regcrm.grant_access('rs_late', 'reader')")
for statement, sees in [("map_head('rs_late')", 40), ("unmap_role('rs_late')", 0), ("grant_access('rs_late', 'operator')", 40), ("revoke_access('rs_late', 'operator')", 0),
                        ("map_head('rs_late', 2)", 20), ("map_manager('rs_late', 1, 4)", 20), ("unmap_role('rs_late', 2)", 0)]:
    ask("select regcrm." + statement)
    with As("rs_late"):
        tap.same(one("select count(*) from regcrm.deal"), sees, "after %s" % statement)
ask("select regcrm.unmap_role('rs_late'), regcrm.revoke_access('rs_late')")
ask("drop role rs_late")
tap.ok(True, "who is mapped no more and holds no right can be dropped")

# ---- of one account; setup(); detach(); off ----

ask("select regcrm.disable_row_security(2)")
with As("rs_anna"):
    tap.same(sorted(ask("select account_id, count(*) > 10 from regcrm.deal group by 1")), [(1, False), (2, True)],
             "turned off for one account, that is seen by all who read")
with As("rs_anna"):
    tap.same(one("select count(*) from regcrm.deal where account_id = 2"), 20, "... whole")
ask("select regcrm.enable_row_security(2)")
ask("drop policy regcrm_own on regcrm.violation")
ask("drop policy regcrm_seen on regcrm.outbox")
ask("alter table regcrm.outbox disable row level security")
ask("select regcrm.setup()")
tap.same(ask("select w.relation, w.policy from regcrm.row_rules() w where not exists (select from pg_policy p where p.polrelid = ('regcrm.' || w.relation)::regclass and p.polname = w.policy)"
             " union select w.relation, '' from regcrm.row_rules() w join pg_class c on c.oid = ('regcrm.' || w.relation)::regclass where not c.relrowsecurity"), [], "setup() makes what is missing")
keyed = ask("""select c.relname::text from pg_class c where c.relnamespace = 'regcrm'::regnamespace and c.relkind = 'r' and not c.relrowsecurity
    and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname in ('deal_id', 'contact_id', 'body', 'page', 'source_id') and a.atttypid <> 'integer'::regtype)""")
tap.same(keyed, [("effect",)], "every table with deals, clients or texts has policies (effect is regulation)")
ask("select regcrm.detach()")
with As("rs_bi"):
    tap.same(one("select count(*) from regcrm.deal"), 0, "detached, the tables are shut")
tap.same(one("select count(*) from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass"), 0, "... and no policy stands on a function")
ask("select regcrm.setup()")
with As("rs_anna"):
    tap.same(ask("select distinct account_id, manager_id from regcrm.deal"), [(1, 1)], "setup() takes row security back")
ask("create policy mine on regcrm.task to rs_bi using (true)")
ask("select regcrm.disable_row_security()")
with As("rs_bi"):
    tap.same((one("select count(*) from regcrm.deal"), one("select count(*) from pg_policy")), (40, 1), "turned off, all is seen again; a policy of the user's stays")
with As("rs_anna"):
    tap.same(one("select count(*) from regcrm.task"), 0, "... and its table as he had it")
ask("drop policy mine on regcrm.task")
ask("alter table regcrm.task disable row level security")

# only one account, from the beginning
ask("select regcrm.enable_row_security(1)")
with As("rs_anna"):
    tap.same(sorted(ask("select distinct account_id from regcrm.deal where manager_id = 2")), [(2,)], "turned on for one account, the other is open")
ask("select regcrm.disable_row_security()")
tap.same(one("select regcrm.unmap_role('rs_twice')"), 2, "unmap_role() says how many mappings went")

tap.done()
