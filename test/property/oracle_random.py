"""Random regulations, accounts and deals for oracle_test.py.

Made to hurt: times come from one short list, so that answers fall into the very
second of a deadline, moves into one second, and calls to the end of a window.
A batch is an account with a regulation of its own and some deals.
"""
import datetime as dt
import json

STAGES = ["new", "in_work", "no_answer", "messaging", "deciding", "meeting",
          "contract", "deferred", "lost", "unqualified", "won"]
SCENARIOS = ["no_answer", "in_work", "messaging", "deciding", "meeting", "lost", "unqualified", "strange"]
KINDS = ["process_request", "callback", "meeting_control", "contract_control", "other"]
DATES = ["lead_date", "return_on"]
MOMENTS = ["meeting_at", "agreed_at", "signed_at", "paid_at"]
FIELDS = DATES + MOMENTS + ["reason", "pause_reason", "skip_task_check", "city"]
BOTH = "signed_and_paid"
STEPS = [0, 0, 0, 0, 1, 20, 59, 60, 61, 300, 600, 900, 1800, 3600, 7200, 3 * 3600, 9 * 3600, 11 * 3600,
         86400, 3 * 86400]
CROWDED = [0, 0, 0, 0, 0, 0, 1, 60]
WITHINS = ["1 second", "1 minute", "5 minutes", "15 minutes", "30 minutes", "1 hour", "3 hours", "9 hours",
           "27 hours", "72 hours"]
ZONES = ["Europe/Moscow", "Europe/Moscow", "Asia/Yekaterinburg", "Europe/Berlin", "UTC", "America/New_York"]
MANAGERS = [1, 2, 3, 4]          # 3 is not in scope, 4 is nobody's
START = dt.datetime(2026, 2, 20, tzinfo=dt.timezone.utc)


class Batch:
    """An account, its regulation and its deals: rows by table, ready to be inserted."""

    def __init__(self, r, number, deals):
        self.r, self.account = r, number
        self.regulation = f"random {number}"
        self.whole = r.random() < 0.12           # the built-in rules, all of them
        self.steps = CROWDED if r.random() < 0.15 else STEPS
        self.stages = STAGES if self.whole else r.sample(STAGES, r.randint(2, 5))
        self.rows = {}
        self.next_id = 1
        self.make_regulation()
        self.make_account()
        self.as_of = {}
        for deal in range(1, deals + 1):
            self.make_deal(deal)

    def add(self, table, **row):
        self.rows.setdefault(table, []).append(row)

    # ---- tokens ----

    def stage(self):
        return self.r.choice(self.stages)

    def event_token(self, trigger=False):
        r = self.r
        kind = r.choice(KINDS)
        tokens = ["enter", "enter", "leave", "enter:" + self.stage(), "call_out", "call_in", "missed_call",
                  "missed_call", "talk", "long_call:" + r.choice(["5s", "1min", "10min", "15min"]), "message_out",
                  "message_in", "message_by_hand", "bot_message", "touch", "touch", "contact", "contact",
                  "client_request", "scenario", "scenario:" + r.choice(SCENARIOS[:5]), "comment", "comment",
                  "task_added", "task_added:" + kind, "task_by_hand", "task_by_bot", "task_done",
                  "task_done:" + kind, "bot_act", "bot", "field:" + r.choice(FIELDS), "field:" + r.choice(MOMENTS),
                  "moment:" + r.choice(DATES + MOMENTS), "moment:meeting_at", BOTH, "activity", "activity"]
        return r.choice(tokens)

    def condition(self):
        r = self.r
        if r.random() < 0.5:
            token = r.choice(["task", "task:" + r.choice(KINDS), "no_task", "stage", "field:" + r.choice(FIELDS),
                              "passed:" + r.choice(DATES + MOMENTS), "ahead:" + r.choice(DATES + MOMENTS),
                              "ahead:meeting_at", "passed:meeting_at",
                              "soon:meeting_at:" + r.choice(["1h", "3h", "5min"]), "visited:" + self.stage(),
                              "moved_by_bot", "unreached", "comment_where_required", "scenario_matches"])
        else:
            token = self.event_token()
            if r.random() < 0.25:
                token += f"*{r.randint(2, 3)}"
        if r.random() < 0.15:
            token = "!" + token
        return token

    def of_entering(self):
        """A condition for form enter: that the deal enters is nothing to look for there."""
        while True:
            token = self.condition()
            if token.lstrip("!").split("*")[0] not in ("enter", "activity"):
                return token

    def some(self, make, most):
        return [make() for _ in range(self.r.choice([1, 1, 1, 2, 2, 3][:most + 2]))]

    def unless(self, condition=None):
        return self.some(condition or self.condition, 2) if self.r.random() < 0.35 else []

    # ---- regulation ----

    def valid(self):
        r = self.r
        at = lambda: (START + dt.timedelta(days=r.randint(0, 40), hours=r.randint(0, 23))).isoformat()
        kind = r.random()
        if kind < 0.85:
            return "(,)"
        if kind < 0.9:
            return f"[{at()},)"
        if kind < 0.97:
            return f"(,{at()}{r.choice(')]')}"
        return "[" + ",".join(sorted([at(), at()])) + "]"

    def make_regulation(self):
        r = self.r
        window = lambda choices: r.choice(choices)
        self.add("regulation", code=self.regulation, title="random",
                 redial_window=window(["30 minutes", "30 minutes", "0", "1 minute"]),
                 undo_window=window(["1 minute", "1 minute", "0", "5 minutes"]),
                 min_talk=window(["10 seconds", "10 seconds", "1 minute"]))
        pairs = {(a, b) for a in [None, *STAGES] for b in STAGES if a != b and r.random() < 0.6}
        for a, b in sorted(pairs, key=str):
            self.add("transition", regulation=self.regulation, from_stage=a, to_stage=b,
                     comment_required=r.random() < 0.3, valid=self.valid())
        for code in SCENARIOS[:-1]:
            outcome = {"no_answer": "missed", "unqualified": "any"}.get(code, "reached")
            valid = self.valid() if r.random() < 0.2 else "(,)"
            self.add("scenario", regulation=self.regulation, code=code, name=code, outcome=outcome, valid=valid)
            if valid.startswith("(,") and valid.endswith(")") and valid != "(,)":
                self.add("scenario", regulation=self.regulation, code=code, name=code, valid=f"[{valid[2:-1]},)",
                         outcome=r.choice(["missed", "reached", "any"]))
        self.copied = None if self.whole else r.random() * 0.5     # share of built-in rules
        for i in range(0 if self.whole else r.randint(8, 16)):
            self.make_rule(f"R-{i}")

    def make_rule(self, code):
        r = self.r
        form = r.choice(["enter", "leave", "always", "within", "within", "within", "never", "flow", "attest"])
        rule = dict(regulation=self.regulation, code=code, form=form, title=code, valid=self.valid(),
                    stage=None if r.random() < 0.15 else self.stage(), clock=r.choice(["wall", "business"]))
        if form in ("flow", "attest"):
            if form == "flow":
                rule["stage"] = None
            rule["clock"] = "wall"
            if form == "flow" and r.random() < 0.3:
                rule["unless"] = self.unless(self.of_entering)
        if form in ("enter", "leave", "always"):
            condition = self.of_entering if form == "enter" else self.condition
            rule.update(expect=self.some(condition, 3), unless=self.unless(condition), scope=r.choice([None, "deal", "visit"]),
                        within=r.choice([None, "0", *WITHINS[:8]]))
            if rule["within"] not in (None, "0") and r.random() < 0.3:
                rule["warn"] = r.choice(WITHINS[:6])
            if form == "enter" and r.random() < 0.2:
                rule["nth"] = r.randint(1, 3)
        if form == "within":
            rule.update(event=self.event_token(), expect=self.some(self.event_token, 3), unless=self.unless(),
                        scope=r.choice([None, "visit", "deal"]), within=r.choice(WITHINS),
                        warn=r.choice([None, *WITHINS[1:6]]))
            if r.random() < 0.15:
                rule["nth"] = r.randint(1, 3)
            kind = r.random()
            if kind < 0.15:
                rule.update(event=r.choice(["task_added", "task_added:callback", "task_by_hand", "task_by_bot"]),
                            by="task_due", within=r.choice([None, *WITHINS]))
            elif kind < 0.4:
                rule.update(by=r.choice(["meeting_at", "meeting_at", "return_on", "paid_at"]),
                            within=r.choice([None, *WITHINS]))
                if r.random() < 0.5:
                    rule["event"] = "enter"
        if form == "never":
            rule.update(event=self.event_token(), unless=self.unless(), scope=r.choice([None, "visit", "deal", "after"]),
                        within=None)
            if rule["scope"] != "after":
                rule["within"] = r.choice([None, None, *WITHINS[:7]])
            if r.random() < 0.2:
                rule["nth"] = r.randint(1, 3)
        self.add("rule", **rule)
        if rule["valid"] == "(,)" and r.random() < 0.1:     # changed from a moment on
            at = (START + dt.timedelta(days=r.randint(3, 25), hours=r.randint(0, 23))).isoformat()
            self.rows["rule"][-1]["valid"] = f"(,{at})"
            later = dict(rule, valid=f"[{at},)")
            if rule.get("within") not in (None, "0"):
                later["within"] = r.choice(WITHINS)
            self.add("rule", **later)

    # ---- account ----

    def hours(self):
        """Stretches of one day, none of them in the hours of the night that a zone may skip."""
        r = self.r
        marks = sorted(r.sample(range(5 * 60, 24 * 60 + 1, 5), r.choice([2, 2, 4])))
        clock = lambda m: f"{m // 60:02}:{m % 60:02}:{r.choice([0, 0, 0, 30]) if m < 1440 else 0:02}"
        return [(clock(a), clock(b)) for a, b in zip(marks[::2], marks[1::2])]

    def make_calendar(self):
        r, name = self.r, f"random {self.account}"
        self.add("calendar", name=name, time_zone=r.choice([None, None, *ZONES]))
        for since in ["-infinity", *r.sample(["2026-02-25", "2026-03-08", "2026-03-29"], r.randint(0, 2))]:
            for weekday in r.sample(range(1, 8), r.randint(2, 7)):
                for opens, closes in self.hours():
                    self.add("calendar_week", calendar=name, from_date=since, weekday=weekday, opens=opens, closes=closes)
        for day in r.sample(range(60), r.randint(0, 8)):
            date = (START + dt.timedelta(days=day)).date().isoformat()
            for opens, closes in self.hours() if r.random() < 0.5 else [(None, None)]:
                self.add("calendar_day", calendar=name, day=date, opens=opens, closes=closes)
        return name

    def make_account(self):
        r = self.r
        self.zone = r.choice(ZONES)
        known = {}
        calendar = r.choice([None, "daily-9-20", "daily-9-20", "ru-5x2", self.make_calendar()])
        if r.random() < 0.15:
            known["known_until"] = START + dt.timedelta(days=r.randint(10, 40))
            if r.random() < 0.7:
                known["known_from"] = START + dt.timedelta(days=r.randint(0, 15))
        self.add("account", id=self.account, time_zone=self.zone, regulation="idrive" if self.whole else self.regulation,
                 calendar=calendar, **known)
        self.add("manager", account_id=self.account, id=3, name="outsider", in_scope=False)
        self.add("manager", account_id=self.account, id=1, name="one")
        if r.random() < 0.35:
            for feed in ["calls", "messages", "tasks", "comments", "field:scenario", *("field:" + f for f in FIELDS)]:
                if r.random() < 0.7:
                    since = "-infinity" if r.random() < 0.7 else START + dt.timedelta(days=r.randint(1, 20))
                    self.add("feed", account_id=self.account, feed=feed, since=since)
        self.add("field_map", account_id=self.account, field_id=1, field="city")

    # ---- deals ----

    def make_deal(self, deal):
        r = self.r
        at = START + dt.timedelta(days=r.randint(0, 20), hours=r.choice([5, 6, 8, 12, 15, 17, 18, 21]),
                                  minutes=r.choice([0, 0, 13, 58]))
        row = dict(account_id=self.account, id=deal, created_at=at, manager_id=1)
        self.deal, self.born = deal, at
        self.moments = []
        stage = r.choices(["new" if "new" in self.stages else self.stage(), self.stage()], [6, 4])[0]
        begun = r.random()
        if begun < 0.7:
            self.event(at, "stage", to_stage=stage)
        elif begun < 0.78:
            self.event(at + dt.timedelta(seconds=r.choice(self.steps)), "stage", to_stage=stage)
        row["stage"] = stage
        for _ in range(r.choice([2, 5, 8, 12, 20])):
            at += dt.timedelta(seconds=r.choice(self.steps))
            stage = self.something(at, stage)
        last = at
        if r.random() < 0.1:
            self.something(self.born - dt.timedelta(seconds=r.choice([1, 180, 86400])), stage)
        for field in FIELDS[:-1]:
            # held from the creation on, and no event ever set it
            if r.random() < 0.08 and not any(e["field"] == field for e in self.rows.get("event", ())
                                             if e["deal_id"] == deal and e["kind"] == "field"):
                row[field] = self.field_value(field, self.born)
        if r.random() < 0.08:
            row["deleted_at"] = self.born + dt.timedelta(seconds=r.choice([0, 3600, 86400, 90000])) \
                if r.random() < 0.3 else last + dt.timedelta(seconds=r.choice([0, 60, 3600, 86400]))
            row["is_deleted"] = True
        if r.random() < 0.03:
            row["in_regulation"] = False
        self.add("deal", **row)
        end = last + dt.timedelta(days=r.choice([0, 1, 5, 30]))
        if r.random() < 0.3:
            end = self.born + (last - self.born) * r.random()
            end = end.replace(microsecond=0)
        elif r.random() < 0.2 and self.moments:
            end = r.choice(self.moments) + dt.timedelta(seconds=r.choice([-1, 0, 0, 1, 60, 300, 900, 3600]))
        self.as_of[deal] = end

    def event(self, at, kind, **more):
        row = dict(account_id=self.account, id=self.next_id, deal_id=self.deal, at=at, kind=kind, by_bot=False,
                   actor_id=1, from_stage=None, to_stage=None, answered=None, duration=None, scenario=None, field=None,
                   value=None, value_before=None, source_id=None)
        self.next_id += 1
        row.update(more)
        if row["source_id"] is not None:
            row["source"] = f"s{row['id']}"
        self.moments.append(at)
        self.add("event", **row)

    def something(self, at, stage):
        r = self.r
        what = r.choice(["move"] * 4 + ["call"] * 3 + ["message"] * 3 + ["task"] * 2 + ["scenario"] * 2 + ["comment"]
                        + ["field"] * 4 + ["other"])
        bot = r.random() < 0.25
        actor = r.choice([1, 1, 1, 2, 3, None])
        if what == "move":
            return self.move(at, stage, bot, actor)
        if what == "call":
            duration = r.choice([0, 5, 10, 59, 60, 600, 900, None])
            self.event(at, r.choice(["call_in", "call_out", "call_out"]), actor_id=actor,
                       answered=r.choice([True, False, None]),
                       duration=None if duration is None else f"{duration} seconds")
        elif what == "message":
            kind = r.choice(["message_in", "message_out"])
            self.event(at, kind, by_bot=bot and kind == "message_out", actor_id=actor)
        elif what == "task":
            self.task(at, bot)
        elif what == "scenario":
            self.event(at, "scenario", by_bot=bot, actor_id=actor, scenario=r.choice(SCENARIOS))
        elif what == "comment":
            self.event(at, "comment", actor_id=actor)
        elif what == "field":
            field = r.choice(FIELDS + ["meeting_at"] * 3)
            value = self.field_value(field, at) if r.random() < 0.8 else None
            before = self.field_value(field, at) if r.random() < 0.15 and field != "city" and at > self.born else None
            self.event(at, "field", field=field, value=value, value_before=before, actor_id=actor)
        else:
            kind = r.choice(["request", "visit", "robot", "verdict", "verdict", "verdict"])
            if kind == "verdict":
                self.event(at, kind, field=self.attested(), value=r.choice(["pass", "fail", "fail"]), actor_id=actor)
            else:
                self.event(at, kind, by_bot=kind == "robot" or bot and kind == "robot")
        return stage

    def attested(self):
        codes = [rule["code"] for rule in self.rows.get("rule", ()) if rule["form"] == "attest"]
        return self.r.choice(codes or ["NEW-6", "NEW-10", "DEC-2", "MEET-6"])

    def move(self, at, stage, bot, actor):
        r = self.r
        to = None if r.random() < 0.04 else self.stage()
        shown = stage
        if r.random() < 0.1:
            shown = r.choice([None, self.stage()])
        source = r.choice([None, None, None, "a", "b", "c"])
        self.event(at, "stage", by_bot=bot, actor_id=actor, from_stage=shown, to_stage=to, source_id=source)
        if r.random() < 0.2:
            back = at + dt.timedelta(seconds=r.choice([0, 30, 60, 61, 300]))
            self.event(back, "stage", actor_id=actor, from_stage=to, to_stage=stage)
            to = stage
        return to

    def task(self, at, bot):
        r = self.r
        later = lambda: at + dt.timedelta(seconds=r.choice(self.steps))
        due = at - dt.timedelta(seconds=60) if r.random() < 0.1 else later()
        row = dict(account_id=self.account, id=self.next_id, deal_id=self.deal, kind=r.choice(KINDS),
                   manager_id=r.choice([1, 1, 2, 3, None]), created_at=at, by_bot=bot, due_at=due)
        self.next_id += 1
        row["completed_at"] = later() if r.random() < 0.6 else None
        row["deleted_at"] = later() if r.random() < 0.1 else None
        self.moments += [at, due]
        self.add("task", **row)

    def field_value(self, field, at):
        r = self.r
        if field in DATES:
            return (at + dt.timedelta(days=r.randint(-2, 3))).date().isoformat()
        if field in MOMENTS:
            moment = at + dt.timedelta(seconds=r.choice(self.steps) * r.choice([1, 1, 1, -1]))
            self.moments.append(moment)
            return moment.strftime("%Y-%m-%d %H:%M:%S+00")
        if field == "skip_task_check":
            return r.choice(["true", "true", "false"])
        return r.choice(["дорого", "далеко"])


def plain(value):
    """A value as psycopg2 takes it."""
    return json.dumps(value) if isinstance(value, dict) else value
