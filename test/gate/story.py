"""What the tests of the gate share: deals brought to a stage by a history that
breaks no rule, small writes ("acts") on them, and what came of a transaction.

Histories are loaded in mode record with instants of ten days ago, so that all
tolerances have passed.  Acts are what an application would write, in mode
enforce unless told otherwise.  Nothing here knows how the gate works.
"""
import datetime as dt
import re
import sys

import psycopg2
import psycopg2.extensions

ACCOUNT = 1
STAGES = ["new", "in_work", "no_answer", "messaging", "deciding", "meeting",
          "contract", "deferred", "lost", "unqualified", "won"]


class Tap:
    """Test Anything Protocol; ends the program by done()."""

    def __init__(self):
        self.n = self.bad = 0

    def ok(self, passed, name, *diagnosis):
        self.n += 1
        self.bad += not passed
        print("%s %d - %s" % ("ok" if passed else "not ok", self.n, name.replace("#", "")))
        if not passed:
            for line in diagnosis:
                for part in str(line).rstrip().split("\n"):
                    print("#   " + part)
        sys.stdout.flush()
        return bool(passed)

    def same(self, got, expected, name, *diagnosis):
        return self.ok(got == expected, name, "got      %r" % (got,), "expected %r" % (expected,), *diagnosis)

    def done(self):
        print("1..%d" % self.n)
        sys.exit(self.bad != 0)


class Refused:
    """An error of the server, by its fields."""

    def __init__(self, error, place):
        d = error.diag
        self.error = error
        self.place = place                      # "statement" or "commit"
        self.sqlstate = error.pgcode
        self.message = d.message_primary or ""
        self.detail = d.message_detail or ""
        self.hint = d.message_hint or ""
        self.context = d.context or ""
        self.rule = d.constraint_name
        self.schema, self.table, self.column = d.schema_name, d.table_name, d.column_name

    @property
    def rules(self):
        """Codes that DETAIL names, one line a rule."""
        return sorted(rules_in(self.detail))

    def __str__(self):
        return ("%s at %s: %s\nDETAIL: %s\nHINT: %s\nconstraint %s, table %s.%s, column %s" % (
            self.sqlstate, self.place, self.message, self.detail, self.hint, self.rule,
            self.schema, self.table, self.column))

    __repr__ = __str__


CODES = set()       # of all rules, filled by connect()


def rules_in(detail):
    found = set()
    for line in detail.split("\n"):
        for word in re.findall(r"[A-Z]+(?:-[0-9A-Z]+)?", line):
            if word in CODES:
                found.add(word)
                break
    return found


def connect(role=None, **settings):
    connection = psycopg2.connect("")
    cur = connection.cursor()
    cur.execute("set regcrm.account_id = %s", (ACCOUNT,))
    cur.execute("set statement_timeout = '30s'")
    if not CODES:
        cur.execute("select distinct code from regcrm.rule")
        CODES.update(r[0] for r in cur.fetchall())
    for name, value in settings.items():
        cur.execute("set regcrm.%s = %%s" % name, (value,))
    if role:
        cur.execute("set session authorization %s" % role)
    connection.commit()
    return connection


def start(role="regcrm_writer"):
    """An account, and a role that may write facts and no more.  Returns (admin, writer)."""
    admin = connect(mode="record")
    cur = admin.cursor()
    cur.execute("insert into regcrm.account (id, known_from) values (%s, '2020-01-01') on conflict do nothing", (ACCOUNT,))
    cur.execute("insert into regcrm.manager (account_id, id, name) values (%s, 1, 'M'), (%s, 2, 'N') on conflict do nothing",
                (ACCOUNT, ACCOUNT))
    make_writer(cur, role)
    admin.commit()
    return admin, connect(role=role)


def make_writer(cur, role):
    cur.execute("select from pg_roles where rolname = %s", (role,))
    if cur.fetchone() is None:
        cur.execute("create role %s login" % role)
    cur.execute("select regcrm.grant_access(%s, 'writer')", (role,))
    cur.execute("grant select, insert, update, delete on regcrm.deal, regcrm.task, regcrm.event to %s" % role)


# ---- acts: each is called with a cursor and the deal's id ----

def sql(text, *args):
    """Any statement; %(a)s is the account, %(d)s the deal."""
    def act(cur, deal):
        named = {"a": ACCOUNT, "d": deal}
        named.update({"p%d" % i: a for i, a in enumerate(args)})
        cur.execute(text, named)
    act.text = text + (" %r" % (args,) if args else "")
    return act


def move(stage):
    return sql("update regcrm.deal set stage = %(p0)s::text::regcrm.stage where account_id = %(a)s and id = %(d)s", stage)


def field(name, value):
    """Sets a column; value is text of an SQL expression."""
    return sql("update regcrm.deal set %s = %s where account_id = %%(a)s and id = %%(d)s" % (name, value))


def event(kind, by_bot=False, **columns):
    names = ["account_id", "deal_id", "kind", "by_bot"] + list(columns)
    values = ["%(a)s", "%(d)s", "%(p0)s", "%(p1)s"] + ["%%(p%d)s" % (i + 2) for i in range(len(columns))]
    return sql("insert into regcrm.event (%s) values (%s)" % (", ".join(names), ", ".join(values)),
               kind, by_bot, *columns.values())


def task(kind="other", by_bot=False):
    return sql("insert into regcrm.task (account_id, deal_id, kind, by_bot, manager_id, due_at)"
               " values (%(a)s, %(d)s, %(p0)s, %(p1)s, 1, now() + interval '1 day')", kind, by_bot)


def done(kind=None):
    """Completes the open tasks."""
    return sql("update regcrm.task set completed_at = now() where account_id = %(a)s and deal_id = %(d)s"
               " and completed_at is null and (kind = %(p0)s or %(p0)s is null)", kind)


def scenario(code):
    return event("scenario", scenario=code)


comment = event("comment", body="спрашивал про расписание")
talk = event("call_out", answered=True, duration="3 min")
missed = event("call_out", answered=False)
message_in = event("message_in", channel="whatsapp")
message_out = event("message_out", channel="whatsapp")
visit = event("visit")
meeting_ahead = field("meeting_at", "now() + interval '2 days'")
return_ahead = field("return_on", "(now() + interval '40 days')::date")
return_past = field("return_on", "(now() - interval '4 days')::date")
reason = field("reason", "'дорого'")
signed = field("signed_at", "now()")
paid = field("paid_at", "now()")
skip = field("skip_task_check", "true")


# ---- histories ----

# what a stage asks for all the time
STAGE_TASK = {"in_work": "process_request", "no_answer": "callback", "deciding": "other", "meeting": "meeting_control",
              "contract": "contract_control", "deferred": "other"}
STAGE_FIELDS = {"meeting": {"meeting_at": dt.timedelta(days=5)}, "deferred": {"return_on": dt.timedelta(days=50)},
                "lost": {"reason": "дорого"}, "unqualified": {"reason": "ошибся номером"},
                "won": {"meeting_at": dt.timedelta(days=-9), "signed_at": dt.timedelta(days=-9), "paid_at": dt.timedelta(days=-9), "skip_task_check": True}}


class Bases:
    """Makes deals that stand in a stage after a clean history, in mode record."""

    def __init__(self, admin, first=1000):
        self.admin = admin
        self.last = first

    def make(self, stage, chat=False, contact=True, lead_date=True, comments=0, misses=0, mode="record", **fields):
        """chat: the deal has been in messaging.  contact: the client was reached.  misses: «Недозвон» chosen in
        no_answer.  fields: columns, or None to leave one empty that the stage asks for."""
        self.last += 1
        deal = self.last
        cur = self.admin.cursor()
        cur.execute("set local regcrm.mode = %s", (mode,))
        cur.execute("select now()")
        now = cur.fetchone()[0].replace(microsecond=0)
        t0 = now - dt.timedelta(days=10)

        values = {"lead_date": t0.date() if lead_date else None}
        values.update(STAGE_FIELDS.get(stage, {}))
        values.update(fields)
        for name, value in values.items():
            if isinstance(value, dt.timedelta):
                values[name] = (now + value).date() if name == "return_on" else now + value
        names = list(values)
        cur.execute("insert into regcrm.deal (account_id, id, stage, manager_id, created_at%s) values (%%s, %%s, 'new', 1, %%s%s)"
                    % ("".join(", " + n for n in names), ", %s" * len(names)),
                    [ACCOUNT, deal, t0] + [values[n] for n in names])

        def at(minutes):
            return t0 + dt.timedelta(minutes=minutes)

        def happens(minutes, kind, **columns):
            columns = dict(columns, account_id=ACCOUNT, deal_id=deal, at=at(minutes), kind=kind)
            cur.execute("insert into regcrm.event (%s) values (%s)"
                        % (", ".join(columns), ", ".join("%%(%s)s" % c + ("::text::regcrm.stage" if c.endswith("_stage") else "")
                                                         for c in columns)), columns)

        def add_task(minutes, kind, by_bot=False, until=None):
            cur.execute("insert into regcrm.task (account_id, deal_id, kind, by_bot, manager_id, created_at, due_at, completed_at)"
                        " values (%s, %s, %s, %s, 1, %s, %s, %s)",
                        (ACCOUNT, deal, kind, by_bot, at(minutes), now + dt.timedelta(days=3), at(until) if until else None))

        via = ["messaging"] if chat and stage != "messaging" else []
        if stage == "won":
            via.append("contract" if chat else "meeting")
        path = ["new"] + via + ([stage] if stage != "new" else [])
        add_task(0, "process_request", True, until=None if path[1:] in ([], ["in_work"]) else 10)
        if stage == "no_answer":
            happens(5, "call_out", answered=False)
        elif contact:
            happens(5, "call_out", answered=True, duration="2 min")
            if chat:
                happens(6, "message_in", channel="whatsapp")
        for i, (here, there) in enumerate(zip(path, path[1:])):
            minutes = 10 * (i + 1)
            if here == "new":
                happens(minutes, "scenario", scenario=there)
            happens(minutes, "comment", body="о разговоре")
            happens(minutes, "stage", from_stage=here, to_stage=there)
            if there in STAGE_TASK and there != "in_work":
                add_task(minutes, STAGE_TASK[there], until=minutes + 10 if there != path[-1] else None)
            elif there == "in_work" and chat:
                add_task(minutes, "other")
        for i in range(misses):
            happens(60 * (i + 1), "call_out", answered=False)
            happens(60 * (i + 1) + 1, "scenario", scenario="no_answer")
        for i in range(comments):
            happens(70 + i, "comment", body="ещё")
        self.admin.commit()
        return deal


def completing(here, there, chat=False):
    """What a move asks of the writer, when made from Bases.make(here): the acts without the move."""
    acts = []
    if here in ("new", "in_work", "no_answer") and not chat:
        acts.append(scenario(there if there not in ("new", "won") else "meeting"))      # no scenario leads there
    if here in ("lost", "unqualified"):
        acts.append(visit)
    if there in ("deciding", "deferred"):
        acts.append(comment)
    if there == "no_answer":
        acts.append(missed)
    elif here == "no_answer":
        acts.append(talk)
    if there in ("lost", "unqualified", "won"):
        acts.append(done())
    elif there in ("new", "in_work"):
        acts.append(task())
    elif there in STAGE_TASK:
        acts.append(task(STAGE_TASK[there]))
    acts += {"meeting": [meeting_ahead], "deferred": [return_ahead], "lost": [reason], "unqualified": [reason],
             "won": [signed, paid, skip]}.get(there, [])
    return acts


def random_acts(r, most=4, bot=True):
    """Some writes that an application might make, sensible or not; moves are not among them."""
    pool = [comment, comment, talk, missed, message_in, message_out, visit, task(), task("callback"), task("meeting_control"),
            task("contract_control"), task("process_request"), done(), done("callback"), reason, meeting_ahead, return_ahead,
            return_past, signed, paid, skip, field("pause_reason", "'отпуск'"), field("return_on", "null"),
            field("meeting_at", "null"), field("reason", "null"), field("lead_date", "null"), field("lead_date", "now()::date"),
            field("skip_task_check", "false"), field("name", "'x'"), scenario("deciding"), scenario("meeting"),
            scenario("in_work"), event("request"), field("manager_id", "2")]
    if bot:
        pool += [event("robot"), event("message_out", by_bot=True), task("other", by_bot=True)]
    return [r.choice(pool) for _ in range(r.randint(0, most))]


def random_base(r, bases, **fixed):
    """A deal in some stage, with more or less of what the next move needs."""
    options = dict(stage=r.choice(STAGES), chat=r.random() < 0.4, contact=r.random() < 0.8, lead_date=r.random() < 0.8,
                   comments=r.choice([0, 0, 1]))
    options.update(fixed)
    stage = options.pop("stage")
    for name, value in [("reason", "дорого"), ("meeting_at", dt.timedelta(days=3)), ("return_on", dt.timedelta(days=30)),
                        ("signed_at", dt.timedelta(days=-1)), ("paid_at", dt.timedelta(days=-1)), ("pause_reason", "думает")]:
        if r.random() < 0.3 and name not in STAGE_FIELDS.get(stage, {}):
            options[name] = value
    if options["chat"] and stage in ("new", "no_answer"):
        options["chat"] = False     # no way leads back there from messaging but by closing
    if not options["contact"] and stage not in ("new", "no_answer", "unqualified"):
        options["contact"] = True
    return bases.make(stage, **options)


# ---- transactions ----

def attempt(connection, deal, acts, immediate=False, mode=None):
    """The acts in one transaction.  None = committed; else a Refused, and all is rolled back."""
    cur = connection.cursor()
    if mode:
        cur.execute("set local regcrm.mode = %s", (mode,))
    try:
        for act in acts:
            act(cur, deal)
    except psycopg2.Error as error:
        connection.rollback()
        return Refused(error, "statement")
    try:
        if immediate:
            cur.execute("set constraints all immediate")
        connection.commit()
    except psycopg2.Error as error:
        connection.rollback()
        return Refused(error, "commit")
    return None


def facts(connection, deal):
    """Everything stored of a deal, to see that a refused transaction left nothing."""
    cur = connection.cursor()
    cur.execute("""select (select to_jsonb(d) from regcrm.deal d where d.account_id = %(a)s and d.id = %(d)s),
            (select jsonb_agg(to_jsonb(t) order by t.id) from regcrm.task t where t.account_id = %(a)s and t.deal_id = %(d)s),
            (select jsonb_agg(to_jsonb(e) order by e.id) from regcrm.event e where e.account_id = %(a)s and e.deal_id = %(d)s),
            (select jsonb_agg(to_jsonb(v) order by v.id) from regcrm.violation v where v.account_id = %(a)s and v.deal_id = %(d)s),
            (select jsonb_agg(to_jsonb(l) order by l.rule, l.arose_at) from regcrm.deadline l
             where l.account_id = %(a)s and l.deal_id = %(d)s)""", {"a": ACCOUNT, "d": deal})
    row = cur.fetchone()
    connection.commit()
    return row


def described(acts):
    return "\n".join(" ".join(a.text.split()) for a in acts)


def breaches(connection, deal):
    """Rules of action reject that the ledger holds as broken and not withdrawn."""
    cur = connection.cursor()
    cur.execute("""select distinct v.rule from regcrm.violation v join regcrm.rule r on r.code = v.rule and r.regulation = 'idrive'
                   where v.account_id = %s and v.deal_id = %s and v.withdrawn_at is null and r.action = 'reject' order by 1""",
                (ACCOUNT, deal))
    rules = [r[0] for r in cur.fetchall()]
    connection.commit()
    return rules


def summary(connection, deal):
    """What is stored of a deal, without numbers and instants."""
    cur = connection.cursor()
    cur.execute("""select (select format('%%s %%s %%s', d.stage, d.reason, d.name) from regcrm.deal d where d.account_id = %(a)s and d.id = %(d)s),
        (select string_agg(t.kind || case when t.completed_at is null then ' open' else ' done' end, ', ' order by t.kind, t.completed_at is null)
         from regcrm.task t where t.account_id = %(a)s and t.deal_id = %(d)s and t.deleted_at is null),
        (select string_agg(k, ', ' order by k) from (select e.kind || coalesce(' ' || e.scenario, '') as k from regcrm.event e
         where e.account_id = %(a)s and e.deal_id = %(d)s and e.kind not in ('stage', 'field')) e)""",
                {"a": ACCOUNT, "d": deal})
    state = cur.fetchone()
    connection.commit()
    return state + (tuple(breaches(connection, deal)),)
