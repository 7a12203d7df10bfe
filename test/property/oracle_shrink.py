"""Shrinks a deal that two judges see differently to a small SQL script.

Works on the rows as they are stored: takes one away, or makes it plainer, in a
savepoint, and keeps the change where the two still differ.
"""
import datetime as dt

import psycopg2

from oracle_time import EPOCH

DEFAULTS = {
    "account": {"time_zone": "Europe/Moscow", "call_notes_at": "start", "owner_confirmed_calendar": False, "paused": False,
                "state": "ok"},
    "regulation": {"redial_window": "00:30:00", "undo_window": "00:01:00", "min_talk": "00:00:10"},
    "rule": {"expect": [], "unless": [], "clock": "wall", "severity": "minor", "action": "record", "duty_of": "manager",
             "basis": "stated", "enabled": True, "valid": "(,)"},
    "transition": {"comment_required": False, "basis": "stated", "valid": "(,)"},
    "scenario": {"outcome": "any", "valid": "(,)"},
    "deal": {"is_deleted": False, "in_regulation": True, "custom": {}, "tags": []},
    "event": {"by_bot": False, "guessed": False},
    "task": {"by_bot": False},
    "manager": {"active": True, "in_scope": True},
    "feed": {"since": "-infinity"},
    "field_map": {"by_user": False},
    "calendar": {},
    "calendar_week": {"from_date": "-infinity"},
    "calendar_day": {},
}


class Shrinker:
    def __init__(self, cur, account, deal, as_of, differing):
        self.cur, self.account, self.deal, self.as_of = cur, account, deal, as_of
        self.differing = differing
        cur.execute("select regulation from regcrm.account where id = %s", (account,))
        self.regulation, = cur.fetchone()

    def still(self):
        return self.differing(self.cur, self.account, {self.deal: self.as_of})[0].get(self.deal)

    def attempt(self, query, *arguments):
        """Keeps a change where the two still differ."""
        self.cur.execute("savepoint attempt")
        try:
            self.cur.execute(query, arguments)
            if self.cur.rowcount and self.still():
                self.cur.execute("release attempt")
                return True
        except psycopg2.Error:
            pass
        self.cur.execute("rollback to attempt")
        return False

    def keys(self, table, where, *arguments):
        self.cur.execute(f"select ctid::text from regcrm.{table} where {where}", arguments)
        return [key for key, in self.cur.fetchall()]

    def thin(self, table, where, *arguments):
        """Takes rows away, halves first."""
        size = len(self.keys(table, where, *arguments))
        while size >= 1:
            keys = self.keys(table, where, *arguments)
            for i in range(0, len(keys), size):
                self.attempt(f"delete from regcrm.{table} where ctid = any(%s::tid[])", keys[i:i + size])
            size //= 2

    def run(self, rule):
        a, d = self.account, self.deal
        self.cur.execute("delete from regcrm.deal where account_id = %s and id <> %s", (a, d))
        self.attempt("delete from regcrm.rule where regulation = %s and code <> %s", self.regulation, rule)
        for _ in range(2):
            for table in ("event", "task"):
                self.thin(table, "account_id = %s and deal_id = %s", a, d)
            self.thin("feed", "account_id = %s", a)
            self.thin("manager", "account_id = %s", a)
            self.thin("field_map", "account_id = %s", a)
            self.thin("rule", "regulation = %s and code = %s", self.regulation, rule)
            for column in ("calendar", "known_from", "known_until"):
                self.attempt(f"update regcrm.account set {column} = null where id = %s and {column} is not null", a)
            self.attempt("update regcrm.account set time_zone = 'UTC' where id = %s and time_zone <> 'UTC'", a)
            self.attempt("update regcrm.deal set deleted_at = null, is_deleted = false where account_id = %s and id = %s and is_deleted", a, d)
            for column in ("manager_id", "stage", "lead_date", "reason", "pause_reason", "meeting_at", "return_on",
                           "agreed_at", "signed_at", "paid_at", "skip_task_check"):
                self.attempt(f"update regcrm.deal set {column} = null where account_id = %s and id = %s and {column} is not null",
                             a, d)
            self.plainer_rule(rule)
            for key in self.keys("event", "account_id = %s and deal_id = %s", a, d):
                for column in ("by_bot", "actor_id", "answered", "duration", "value_before", "source_id", "from_stage"):
                    plain = "false" if column == "by_bot" else "null"
                    self.attempt(f"update regcrm.event set {column} = {plain} where ctid = %s::tid and {column} is distinct from {plain}", key)
        self.thin("transition", "regulation = %s", self.regulation)
        self.thin("scenario", "regulation = %s", self.regulation)

    def plainer_rule(self, rule):
        for column in ("warn", "nth", "within", "stage"):
            self.attempt(f"update regcrm.rule set {column} = null where regulation = %s and code = %s and {column} is not null",
                         self.regulation, rule)
        self.attempt("update regcrm.rule set valid = '(,)' where regulation = %s and code = %s and valid <> '(,)'",
                     self.regulation, rule)
        self.attempt("update regcrm.rule set clock = 'wall' where regulation = %s and code = %s and clock <> 'wall'",
                     self.regulation, rule)
        for column in ("expect", "unless"):
            for i in (3, 2, 1):
                self.attempt(f"update regcrm.rule set {column} = {column}[:%s] || {column}[%s:] "
                             f"where regulation = %s and code = %s and array_length({column}, 1) >= %s",
                             i - 1, i + 1, self.regulation, rule, i)

    # ---- printing ----

    def script(self):
        lines = ["begin; set local regcrm.mode = 'off'; set local timezone = 'UTC';"]
        mine = "regulation = %s"
        for table, where, arguments in (
                ("regulation", "code = %s", [self.regulation]), ("transition", mine, [self.regulation]),
                ("scenario", mine, [self.regulation]), ("rule", mine, [self.regulation]),
                *((table, f"{column} = (select calendar from regcrm.account where id = %s) and {column} like 'random %%'",
                   [self.account]) for table, column in
                  (("calendar", "name"), ("calendar_week", "calendar"), ("calendar_day", "calendar"))),
                ("account", "id = %s", [self.account]), ("manager", "account_id = %s", [self.account]),
                ("feed", "account_id = %s", [self.account]), ("field_map", "account_id = %s", [self.account]),
                ("deal", "account_id = %s and id = %s", [self.account, self.deal]),
                ("event", "account_id = %s and deal_id = %s order by at, id", [self.account, self.deal]),
                ("task", "account_id = %s and deal_id = %s order by created_at, id", [self.account, self.deal])):
            if self.regulation == "idrive" and table in ("regulation", "transition", "scenario", "rule"):
                continue
            self.cur.execute(f"select to_jsonb(t) from regcrm.{table} t where {where}", arguments)
            for row, in self.cur.fetchall():
                lines.append(self.insert(table, row))
        lines.append(f"select * from regcrm.judge({self.account}, {self.deal}, '{self.as_of:%Y-%m-%d %H:%M:%S+00}');")
        lines.append("rollback;")
        return "\n".join(lines)

    def insert(self, table, row):
        kept = {k: v for k, v in row.items() if v is not None and v != DEFAULTS[table].get(k)}
        if table in ("transition", "scenario", "rule"):
            kept.pop("clause", None)
        values = ", ".join(self.literal(v) for v in kept.values())
        return f"insert into regcrm.{table} ({', '.join(kept)}) values ({values});"

    def literal(self, value):
        if isinstance(value, list):
            return self.quoted("{" + ",".join(value) + "}")
        return str(value).lower() if isinstance(value, (bool, int)) else self.quoted(str(value).replace("+00:00", "+00"))

    @staticmethod
    def quoted(text):
        return "'" + text.replace("'", "''") + "'"


def readable(finding):
    parts = []
    for name, value in finding._asdict().items():
        if value is None:
            continue
        if name.endswith("_at"):
            when = EPOCH + dt.timedelta(microseconds=value)
            value = when.strftime("%Y-%m-%d %H:%M:%S") + (f".{when.microsecond:06}" if when.microsecond else "")
        parts.append(f"{name} {value}" if name != "rule" else str(value))
    return ", ".join(parts)


def shrunk(cur, account, deal, as_of, sides, differing):
    """The script of a deal made small, and what each judge alone says of it."""
    rule = (sides[0] + sides[1])[0].rule
    cur.execute("savepoint whole")
    shrinker = Shrinker(cur, account, deal, as_of, differing)
    shrinker.run(rule)
    theirs, ours = shrinker.still()
    lines = [shrinker.script()]
    lines += ["-- judge():  " + readable(f) for f in theirs]
    lines += ["-- oracle:   " + readable(f) for f in ours]
    cur.execute("rollback to whole")
    return "\n".join(lines)
