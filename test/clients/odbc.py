"""What a BI tool over ODBC does (psqlodbc by way of unixODBC): lists the views,
reads Cyrillic, filters by dates and moments given as parameters, reads moments
in the zone of its role.  Prints KEY<tab>VALUE lines for test/t/070_clients.pl.

usage: odbc.py 'DRIVER={PostgreSQL Unicode};SERVER=...;...'
"""
import datetime
import sys

import pyodbc

sys.stdout.reconfigure(encoding="utf-8")


def say(key, value):
    print(key, value, sep="\t")


connection = pyodbc.connect(sys.argv[1], autocommit=True)
cursor = connection.cursor()
views = cursor.tables(schema="regcrm", tableType="VIEW").fetchall()
say("views", len(views))
columns = cursor.columns(schema="regcrm", table="violations").fetchall()
say("columns of violations", len(columns))
say("columns of odd types", [c.column_name for c in columns
                             if c.type_name not in ("int8", "int4", "numeric", "text", "bool", "date", "timestamptz", "interval")])
# comments: by SQL, as psql and every tool can
cursor.execute("SELECT DISTINCT object_meaning FROM regcrm.data_dictionary WHERE object = ?", "violations")
say("remark of violations", cursor.fetchone()[0])

cursor.execute("SELECT deal_name, manager_name, severity_name, breached_at, late_minutes, breached_day, is_open FROM regcrm.violations"
               " WHERE account_id = ? AND breached_at >= ? AND breached_at < ? AND severity = ? ORDER BY breached_at",
               9070, datetime.datetime(2026, 3, 10), datetime.datetime(2026, 3, 11), "critical")
for deal, manager, severity, at, late, day, is_open in cursor.fetchall():
    say("violation", "|".join([deal, manager, severity, format(late, "f"), day.isoformat(), "true" if is_open in (True, "1") else "false"]))
    say("local", at)
cursor.execute("SELECT manager_name, sum(decided), sum(met) FROM regcrm.manager_scorecard WHERE day BETWEEN ? AND ? GROUP BY manager_name ORDER BY 1",
               datetime.date(2026, 3, 2), datetime.date(2026, 3, 2))
for manager, decided, met in cursor.fetchall():
    say("scorecard", f"{manager}|{decided:.0f}|{met:.0f}")
cursor.execute("SELECT count(*) FROM regcrm.stage_dwell WHERE stage = ?", "new")
say("visits to new", cursor.fetchone()[0])
cursor.execute("SHOW timezone")
say("zone", cursor.fetchone()[0])
for what, sql in (("tokens", "SELECT * FROM regcrm.secret"), ("quarantined pages", "SELECT body FROM regcrm.quarantine"),
                  ("writing", "UPDATE regcrm.deal SET name = ''"), ("waiving", "SELECT regcrm.waive(9070, 1, 'x')")):
    try:
        cursor.execute(sql)
        say(what, "allowed")
    except pyodbc.Error as error:
        say(what, error.args[0])
