"""Working time of the simulated school: every day 09:00 to 20:00 in Moscow (UTC+3, no daylight saving).

Only used to *schedule* acts (a call one second after a quarter of an hour of working time, say);
nothing here judges anything.  All moments are unix seconds.
"""

ZONE = 3 * 3600
DAY = 86400
HOUR = 3600
MINUTE = 60
OPEN, CLOSE = 9 * HOUR, 20 * HOUR


def midnight(moment: int) -> int:
    """The local midnight that began the day of this moment."""
    return (moment + ZONE) // DAY * DAY - ZONE


def day_time(moment: int, days: int, seconds: int) -> int:
    """So many days after the day of this moment, so many seconds after midnight."""
    return midnight(moment) + days * DAY + seconds


def is_open(moment: int) -> bool:
    return OPEN <= (moment + ZONE) % DAY < CLOSE


def next_open(moment: int) -> int:
    """The moment itself in working hours, else the next opening."""
    second = (moment + ZONE) % DAY
    if second < OPEN:
        return moment - second + OPEN
    if second >= CLOSE:
        return moment - second + DAY + OPEN
    return moment


def add_work(moment: int, seconds: int) -> int:
    """The moment when so many seconds of working time have passed."""
    moment = next_open(moment)
    while True:
        left = midnight(moment) + CLOSE - moment
        if seconds <= left:
            return moment + seconds
        seconds -= left
        moment = midnight(moment) + DAY + OPEN
