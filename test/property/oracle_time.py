"""Times of the oracle: microseconds since 1970, lengths, and a naive working calendar."""
import datetime as dt
import functools
import re
import zoneinfo

SECOND = 1_000_000
DAY = 86400 * SECOND
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
UNITS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}


@functools.lru_cache(None)
def length_of(text):
    """A length as tokens write it, 15min or 3h."""
    match = re.fullmatch(r"(\d+)\s*([a-z]+?)s?", text)
    if text.endswith("s") and text[:-1].isdigit():
        return int(text[:-1]) * SECOND
    return int(match[1]) * UNITS[match[2]] * SECOND


@functools.lru_cache(None)
def zone_of(name):
    return zoneinfo.ZoneInfo(name)


def instant(when):
    """Microseconds of an aware datetime."""
    delta = when - EPOCH
    return (delta.days * 86400 + delta.seconds) * SECOND + delta.microseconds


@functools.lru_cache(200000)
def moment_of(value, zone):
    """The moment that a field's text tells; a date is its start in the account's zone."""
    if value is None or not re.match(r"\d{4}-\d\d-\d\d", value):
        return None
    if len(value) == 10:
        return instant(dt.datetime.fromisoformat(value).replace(tzinfo=zone_of(zone)))
    text = re.sub(r"([+-]\d\d)$", r"\1:00", value)
    when = dt.datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=zone_of(zone))
    return instant(when)


class Calendar:
    """Weekly hours and days that differ, in a zone.

    weeks: [(from_date or None, weekday 1..7, opens, closes)], days: {date: [(opens, closes)]},
    hours as seconds after midnight on the clock.
    """

    def __init__(self, zone, weeks, days):
        self.zone = zone_of(zone)
        self.weeks, self.days = weeks, days
        self.known = {}

    def hours(self, day):
        if day in self.days:
            return sorted(self.days[day])
        since = max((f for f, *_ in self.weeks if f is None or f <= day),
                    key=lambda f: f or dt.date.min, default=None)
        return sorted((o, c) for f, w, o, c in self.weeks if f == since and w == day.isoweekday())

    def stretches(self, day):
        """The working stretches of a day as moments."""
        if day not in self.known:
            self.known[day] = [(self.at(day, o), self.at(day, c)) for o, c in self.hours(day)]
        return self.known[day]

    def at(self, day, seconds):
        if seconds == 86400:
            day, seconds = day + dt.timedelta(days=1), 0
        clock = dt.time(seconds // 3600, seconds // 60 % 60, seconds % 60)
        return instant(dt.datetime.combine(day, clock, self.zone))

    def day_of(self, at):
        return (EPOCH + dt.timedelta(microseconds=at)).astimezone(self.zone).date()

    def add(self, at, length):
        """The first moment by which so much working time has passed."""
        if length == 0:
            return at
        day = self.day_of(at) - dt.timedelta(days=1)
        while True:
            for opens, closes in self.stretches(day):
                opens = max(opens, at)
                if closes <= opens:
                    continue
                if length <= closes - opens:
                    return opens + length
                length -= closes - opens
            day += dt.timedelta(days=1)

    def subtract(self, at, length):
        """The last moment from which on so much working time passes until at."""
        if length == 0:
            return at
        day = self.day_of(at) + dt.timedelta(days=1)
        while True:
            for opens, closes in reversed(self.stretches(day)):
                closes = min(closes, at)
                if closes <= opens:
                    continue
                if length <= closes - opens:
                    return closes - length
                length -= closes - opens
            day -= dt.timedelta(days=1)
