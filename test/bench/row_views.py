"""Every view with the filter a dashboard uses (the list of views.sql), over a year, beside the same days in a tenth of that history."""
import re
import statistics
import time
from pathlib import Path

import generate
from lib import connect, row, say, scaled

REPEATS = 5
P95 = 200                               # ms
GROWTH = 1.5


#: what nobody's dashboard shows: all days of a view that is made by days
NOT_SHOWN = {("manager_scorecard", "true"), ("violations_weekly", "true")}


def filters():
    """The pairs of relation and condition out of views.sql."""
    script = (Path(__file__).resolve().parent / "views.sql").read_text()
    return [(name, condition.replace("''", "'")) for name, condition in re.findall(
        r"^\s*(?:select \* from \(values\s*)?\(\s*'([\w(), .:\-'']+?)',\s*'((?:[^']|'')*)'\)", script.replace("), (", "),\n ("), re.M)
        if (name, condition) not in NOT_SHOWN]


def p95(figures):
    return sorted(figures)[min(len(figures) - 1, round(.95 * (len(figures) - 1) + .49))]


def measure(cur, name, condition, repeats=REPEATS):
    """Times in ms of reading it whole, as text; what it reads first comes from disk and does not count."""
    times = []
    for n in range(repeats + 1):
        began = time.perf_counter()
        cur.execute("select count(x::text) from regcrm.%s x where %s" % (name, condition))
        cur.fetchone()
        times.append((time.perf_counter() - began) * 1000)
        if times[-1] > 20_000:          # once is enough of that
            return times
    return times[1:]


def run():
    deals = scaled(1_000_000, 20_000)
    year, part = generate.warehouse(deals), generate.warehouse(deals // 10, 5)
    slow = grown = 0
    worst = []
    with connect(year, jit="off") as a, connect(part, jit="off") as b:
        for cur in (a, b):
            cur.execute("set timezone = 'Europe/Moscow'")
            cur.execute("set statement_timeout = '120s'")
            cur.execute("call regcrm.refresh_marts()")
            cur.execute("call regcrm.refresh_marts(5000)")      # the first only begins to take notes
        for name, condition in filters():
            try:
                whole, tenth = measure(a, name, condition), measure(b, name, condition)
            except Exception as failure:
                say("%s where %s: %s" % (name, condition, str(failure).splitlines()[0]))
                slow += 1
                continue
            figure, ratio = p95(whole), statistics.median(whole) / statistics.median(tenth)
            slow += figure > P95
            grown += ratio > GROWTH and statistics.median(whole) - statistics.median(tenth) > 2
            worst.append((figure, ratio, name, condition))
            say("%-24s %-60s p95 %7.0f ms, %7.1f ms by median, %7.1f ms on a tenth of the history, ratio %.2f" % (
                name, condition, figure, statistics.median(whole), statistics.median(tenth), ratio))
    n = len(filters())
    row("%d filtered views on %d deals over a year: those slower than %d ms (p95)" % (n, deals, P95), "", slow, None, "views", "", "0", slow == 0)
    row("those that take over %g × as long" % GROWTH, "the same days in a tenth of the history", grown, None, "views", "", "0", grown == 0)
    for figure, ratio, name, condition in sorted(worst, reverse=True)[:5]:
        row("`%s` where `%s`" % (name, condition), "a tenth of the history", figure, figure / ratio, "ms", "%.2f" % ratio, "p95 < %d ms, ≤ %g ×" % (P95, GROWTH),
            figure < P95 and ratio <= GROWTH)
