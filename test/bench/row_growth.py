"""How each operation's cost grows with the warehouse: a small plot, docs/performance.svg, and its figures."""
import os
import statistics
import time

import generate
import row_gate
import row_point
import row_rejudge
import row_views
from lib import OUT, connect, psql, row, say, scaled

#: deals at full size
SIZES = (10_000, 100_000, 1_000_000)
VIEWS = (("manager_scorecard", "day >= '2026-03-01' and day < '2026-04-01'"), ("open_violations", "true"),
         ("deal_timeline", "deal_id = (select min(id) from regcrm.deal)"))


def sizes():
    found = sorted({max(2000, scaled(size)) for size in SIZES})
    return found if len(found) > 2 else [2000, 6000, max(20_000, found[-1])]


def measure(database, deals):
    """Milliseconds (or microseconds a deal) by operation."""
    figures = {}
    seconds = min(row_rejudge.rejudge(database)[0] for _ in range(2))
    figures["rejudge(), a deal"] = seconds * 1000 / deals
    for name, ms in row_point.measure(database, 3).items():
        figures["read by key" if name == "read" else name] = ms
    with connect(database, jit="off") as cur:
        cur.execute("set client_min_messages = warning")
        cur.execute("set timezone = 'Europe/Moscow'")
        cur.execute("call regcrm.refresh_marts()")
        times = []
        for _ in range(9):
            began = time.perf_counter()
            cur.execute("select regcrm.flag_expired()")
            times.append((time.perf_counter() - began) * 1000)
        figures["tick, nothing due"] = statistics.median(times)
        for name, condition in VIEWS:
            figures[name] = statistics.median(row_views.measure(cur, name, condition, 3))
        cur.execute("select count(*) from regcrm.account where id = 1")
        if not cur.fetchone()[0]:
            psql(database, "set client_min_messages = warning;\n\\set deals 2000\n" + (row_gate.HERE / "gate_data.sql").read_text())
        cur.execute("select coalesce(max(deal_id), 0) from regcrm.event where account_id = 1 and source = 'regcrm'")
        base = cur.fetchone()[0] + 1
    row_gate.bench(database, 1, 50, base, "off")
    figures["a legal move, by the gate"] = row_gate.bench(database, 1, 300, base + 50, "off")
    return figures


def run():
    found = {}
    for deals in sizes():
        for name, ms in measure(generate.warehouse(deals), deals).items():
            found.setdefault(name, []).append((deals, ms))
    for name, points in found.items():
        (least, first), (most, last) = points[0], points[-1]
        say("%-28s %s" % (name, "  ".join("%d: %.3f ms" % point for point in points)))
        row("growth: " + name, "with %d deals" % least, last, first, "ms", "%.2f" % (last / first), "", None, "%d deals" % most)
    with open(os.path.join(OUT, "performance.svg"), "w") as file:
        file.write(plot(found))


# ---- the plot: both axes logarithmic ----

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 60, 220, 20, 40
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2", "#7f7f7f", "#bcbd22")


def log(x):
    import math
    return math.log10(max(x, 1e-9))


def plot(found):
    xs = [log(x) for points in found.values() for x, _ in points]
    ys = [log(y) for points in found.values() for _, y in points]
    low, high = int(min(ys)) - (min(ys) < 0), int(max(ys)) + (max(ys) > int(max(ys)))

    def at(x, y):
        return (LEFT + (log(x) - min(xs)) / (max(xs) - min(xs)) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (log(y) - low) / (high - low) * (HEIGHT - TOP - BOTTOM))
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">' % (WIDTH, HEIGHT),
           '<rect width="100%" height="100%" fill="white"/>']
    for power in range(low, high + 1):
        _, y = at(10 ** min(xs), 10 ** power)
        out.append('<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s ms</text>' % (
            LEFT, y, WIDTH - RIGHT, LEFT - 4, y + 4, "%g" % 10 ** power))
    for x in sorted({x for points in found.values() for x, _ in points}):
        px, _ = at(x, 10 ** low)
        out.append('<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>' % (
            px, TOP, HEIGHT - BOTTOM, px, HEIGHT - BOTTOM + 16, "{:,}".format(x)))
    out.append('<text x="%d" y="%d" text-anchor="middle">deals in the warehouse</text>' % ((LEFT + WIDTH - RIGHT) // 2, HEIGHT - 6))
    labels = []
    for n, (name, points) in enumerate(found.items()):
        colour = COLOURS[n % len(COLOURS)]
        path = " ".join("%s%.1f %.1f" % ("L" if i else "M", *at(*point)) for i, point in enumerate(points))
        out.append('<path d="%s" fill="none" stroke="%s" stroke-width="2"/>' % (path, colour))
        out += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (*at(*point), colour) for point in points]
        labels.append([at(*points[-1])[1], name, colour])
    labels.sort()
    for above, label in zip([None] + labels, labels):
        if above is not None:
            label[0] = max(label[0], above[0] + 13)
        out.append('<text x="%d" y="%.1f" fill="%s">%s</text>' % (WIDTH - RIGHT + 8, label[0] + 4, label[2], label[1]))
    return "\n".join(out) + "\n</svg>\n"
