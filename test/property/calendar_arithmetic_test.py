#!/usr/bin/python3
"""Business time against counting.

Random calendars (several stretches a day, hours to the half minute, over midnight, free
days, weeks that change from a date on) in zones with all sorts of clock changes are
stored as rows.  The oracle looks at each half minute of six weeks by itself: what does
the wall clock of the zone show (python's zoneinfo), and do the rows say that it is
worked?  Then:

    counted    business_time_between() is what was counted
    earliest   add_business_time() is the first moment by which so much was counted
    identity   business_time_between(t, add_business_time(t, d)) = d, to the microsecond,
               for d from nothing to ten years
    back       add_business_time(add_business_time(t, d), -d) = t for t inside working time
    refused    months, and moments outside of 2000 to 2060, are errors

Prints TAP.  Connects by the usual PG* variables to a database with regcrm.

    calendar_arithmetic_test.py [--calendars 20] [--seed 1]
"""
import argparse
import datetime as dt
import random
import sys
import zoneinfo

import psycopg2

ZONES = ["Europe/Moscow", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago",
         "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca", "America/St_Johns", "Asia/Vladivostok"]
STEP = 30
DAYS = 42
DAY = 86400
UTC = dt.timezone.utc


class Calendar:
    """A random calendar: rows for the tables, and what they say."""

    def __init__(self, r, number):
        self.name = "random%d" % number
        self.zone = r.choice(ZONES)
        # around a change of clocks where the zone has any
        year = r.randint(2001, 2037)
        self.first = dt.date(year, r.choice([3, 9, 10, 11, r.randint(1, 12)]), r.randint(1, 28)) - dt.timedelta(days=7)
        self.weeks = {}         # first day: {weekday: spans}
        for first in [dt.date(2000, 1, 1), self.first + dt.timedelta(days=r.randint(8, 20)),
                      self.first + dt.timedelta(days=r.randint(21, 30))][:r.randint(1, 3)]:
            week = {d: self.day(r) for d in range(1, 8) if r.random() < 0.8}
            week[r.randint(1, 7)] = [(9 * 3600, 18 * 3600)]
            self.weeks[first] = week
        self.days = {}
        for i in range(DAYS):
            if r.random() < 0.15:
                self.days[self.first + dt.timedelta(days=i)] = self.day(r) if r.random() < 0.5 else []

    @staticmethod
    def day(r):
        spans = []
        at = 0
        for _ in range(r.randint(1, 3)):
            begin = at + STEP * r.choice([0, r.randint(0, 600), r.randint(0, 600)])
            end = r.choice([DAY, begin + STEP * r.randint(1, 900), begin + STEP * r.randint(1, 900)])
            end = min(end, DAY)
            if begin >= end:
                break
            spans.append((begin, end))
            at = end
        return spans or [(8 * 3600, 12 * 3600)]

    def hours(self, day):
        if day in self.days:
            return self.days[day]
        week = self.weeks[max(f for f in self.weeks if f <= day)]
        return week.get(day.isoweekday(), [])

    def store(self, cur):
        def clock(s):
            return "24:00" if s == DAY else str(dt.timedelta(seconds=s))
        cur.execute("INSERT INTO regcrm.calendar (name) VALUES (%s)", (self.name,))
        for first, week in self.weeks.items():
            for weekday, spans in week.items():
                for begin, end in spans:
                    cur.execute("INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes) VALUES (%s, %s, %s, %s, %s)",
                                (self.name, first, weekday, clock(begin), clock(end)))
        for day, spans in self.days.items():
            for begin, end in spans or [(None, None)]:
                cur.execute("INSERT INTO regcrm.calendar_day (calendar, day, opens, closes) VALUES (%s, %s, %s, %s)",
                            (self.name, day, begin if begin is None else clock(begin), end if end is None else clock(end)))

    def count(self):
        """The beginning, and how many half minutes are worked before each."""
        zone = zoneinfo.ZoneInfo(self.zone)
        begin = dt.datetime.combine(self.first, dt.time(), UTC)
        worked = [0]
        for i in range(DAYS * DAY // STEP):
            local = (begin + dt.timedelta(seconds=i * STEP)).astimezone(zone)
            second = local.hour * 3600 + local.minute * 60 + local.second
            worked.append(worked[-1] + any(b <= second < e for b, e in self.hours(local.date())))
        return begin, worked


def first_with(worked, wanted):
    """The first place by which so much was counted."""
    low, high = 0, len(worked)
    while low < high:
        middle = (low + high) // 2
        if worked[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--calendars", type=int, default=20)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    r = random.Random(args.seed)
    conn = psycopg2.connect("")
    conn.autocommit = False
    cur = conn.cursor()
    cur.execute("SET timezone = 'UTC'")
    cur.execute("SET intervalstyle = 'postgres'")
    wrong = {name: [] for name in ("counted", "earliest", "identity", "back")}
    checks = dict.fromkeys(wrong, 0)

    def check(name, good, what):
        checks[name] += 1
        if not good:
            wrong[name].append(what)

    for number in range(args.calendars):
        c = Calendar(r, number)
        c.store(cur)
        begin, worked = c.count()
        last = len(worked) - 1

        def at(i):
            return begin + dt.timedelta(seconds=i * STEP)

        for _ in range(100):
            a, b = r.randint(0, last), r.randint(0, last)
            cur.execute("SELECT extract(epoch FROM regcrm.business_time_between(%s, %s, %s, %s))", (at(a), at(b), c.name, c.zone))
            check("counted", cur.fetchone()[0] == (worked[b] - worked[a]) * STEP, (c.name, c.zone, at(a), at(b)))
            a = r.randint(0, last // 2)
            ahead = r.randint(1, max(1, worked[last] - worked[a]))
            if worked[a] + ahead <= worked[last]:
                cur.execute("SELECT regcrm.add_business_time(%s, %s, %s, %s)",
                            (at(a), dt.timedelta(seconds=ahead * STEP), c.name, c.zone))
                check("earliest", cur.fetchone()[0] == at(first_with(worked, worked[a] + ahead)), (c.name, c.zone, at(a), ahead))

        # to the microsecond, and far ahead
        for _ in range(100):
            t = begin + dt.timedelta(microseconds=r.randint(0, DAYS * DAY * 10 ** 6))
            d = dt.timedelta(microseconds=r.choice([0, 1, r.randint(0, 10 ** 6), r.randint(0, 10 ** 10), r.randint(0, 10 ** 14)]))
            cur.execute("""
                SELECT u.until, regcrm.business_time_between(%(t)s, u.until, %(c)s, %(z)s) = %(d)s,
                    regcrm.business_time_between(%(t)s - interval '1 us', %(t)s + interval '1 us', %(c)s, %(z)s) = '2 us',
                    regcrm.add_business_time(u.until, -%(d)s, %(c)s, %(z)s) = %(t)s
                FROM (SELECT regcrm.add_business_time(%(t)s, %(d)s, %(c)s, %(z)s) AS until OFFSET 0) u""",
                        {"t": t, "d": d, "c": c.name, "z": c.zone})
            _, same, inside, back = cur.fetchone()
            check("identity", same, (c.name, c.zone, t, d))
            if inside:
                check("back", back, (c.name, c.zone, t, d))
    print("1..%d" % (len(wrong) + 2))
    bad = 0
    for i, (name, failures) in enumerate(wrong.items(), 1):
        good = not failures and checks[name] > 0
        bad += not good
        print("%sok %d - %s (%d checks)" % ("" if good else "not ", i, name, checks[name]))
        for failure in failures[:5]:
            print("#   " + " ".join(map(str, failure)))
    for i, (call, state, what) in enumerate([
            ("regcrm.add_business_time('2026-01-01', '1 month', 'random0')", "22023", "months are refused"),
            ("regcrm.add_business_time('2059-01-01', '1000000 hours', 'random0')", "22008", "so is what lies beyond 2060")], len(wrong) + 1):
        cur.execute("SAVEPOINT s")
        try:
            cur.execute("SELECT " + call)
            got = "an answer"
        except psycopg2.Error as e:
            got = e.pgcode
        cur.execute("ROLLBACK TO s")
        bad += got != state
        print("%sok %d - %s%s" % ("" if got == state else "not ", i, what, "" if got == state else " (%s)" % got))
    conn.rollback()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
