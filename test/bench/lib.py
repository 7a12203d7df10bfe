"""What the programs of test/bench share: connections, interleaved repeats, rows of the table."""
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time

import psycopg2

#: the full sizes are those of the issue; BENCH_SCALE is the share of them that is measured
SCALE = float(os.environ.get("BENCH_SCALE") or 0.02)
OUT = os.environ.get("BENCH_OUT", ".")
ROWS = []


def say(text):
    print("# " + text, flush=True)


@contextlib.contextmanager
def connect(database, **settings):
    """A cursor, each statement a transaction of its own."""
    connection = psycopg2.connect(dbname=database)
    connection.autocommit = True
    cur = connection.cursor()
    try:
        for name, value in settings.items():
            cur.execute("set %s = %%s" % name.replace("__", "."), (value,))
        yield cur
    finally:
        connection.close()


def psql(database, script):
    return subprocess.run(["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database], input=script, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def scaled(full, least=1):
    return max(least, round(full * SCALE))


def took(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(repeats, **sides):
    """Runs the sides in turn, `repeats` times; each returns its figure, or None to be timed.  Medians by side, and all figures."""
    figures = {side: [] for side in sides}
    for n in range(repeats):
        order = list(sides) if n % 2 == 0 else list(sides)[::-1]
        for side in order:
            began = time.perf_counter()
            figure = sides[side]()
            figures[side].append(time.perf_counter() - began if figure is None else figure)
    return {side: statistics.median(of) for side, of in figures.items()}, figures


def number(x):
    return "%.0f" % x if x >= 100 else "%.1f" % x if x >= 10 else "%.2f" % x if x >= .1 else "%.4f" % x


def row(what, against, ours, theirs, unit, ratio, goal, reached, note=""):
    """A row of the table; ours and theirs are figures in `unit`, ratio and goal are text."""
    ROWS.append({"what": what, "against": against, "ours": "%s %s" % (number(ours), unit) if ours is not None else "",
                 "theirs": "%s %s" % (number(theirs), unit) if theirs is not None else "", "ratio": ratio, "goal": goal,
                 "reached": {True: "yes", False: "**no**", None: ""}[reached], "note": note})
    last = ROWS[-1]
    print("%s / %s: %s / %s = %s; goal %s%s%s" % (what, against, last["ours"], last["theirs"], ratio, goal,
                                                  {True: ", reached", False: ", NOT reached", None: ""}[reached],
                                                  " (%s)" % note if note else ""), flush=True)


def at_most(what, against, ours, theirs, unit, goal, note=""):
    """A row whose ratio ours / theirs is to be `goal` or less."""
    ratio = ours / theirs
    row(what, against, ours, theirs, unit, "%.2f" % ratio, "≤ %g ×" % goal, ratio <= goal, note)
    return ratio


def at_least(what, against, ours, theirs, unit, ratio, goal, note=""):
    row(what, against, ours, theirs, unit, "%.2f" % ratio, "≥ %g ×" % goal, ratio >= goal, note)


def table():
    lines = ["| what | against | regcrm | the other | ratio | goal | reached |", "| --- | --- | ---: | ---: | ---: | --- | --- |"]
    for r in ROWS:
        lines.append("| %(what)s | %(against)s | %(ours)s | %(theirs)s | %(ratio)s | %(goal)s | %(reached)s |" % r)
    return "\n".join(lines)


def machine():
    """The machine and the settings that matter, one line each."""
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown processor")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) / 1048576
    disk = subprocess.run(["df", "--output=source,fstype,size", "-h", OUT], stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1].split()
    load = os.getloadavg()[0]
    with connect("postgres") as cur:
        cur.execute("select version()")
        version = cur.fetchone()[0].split(",")[0]
        cur.execute("select string_agg(name || ' = ' || case when unit = '8kB' then pg_size_pretty(setting::bigint * 8192) when unit = 'MB'"
                    " then setting || 'MB' else setting end, ', ' order by name)"
                    " from pg_settings where name in ('fsync', 'shared_buffers', 'max_wal_size', 'wal_sync_method', 'full_page_writes', 'jit')")
        settings = cur.fetchone()[0]
    return ["%s, %d cores, %.0f GB of memory; disk %s" % (cpu, os.cpu_count(), memory, " ".join(disk)),
            "%s; %s" % (version, settings), "load when it began: %.1f" % load]


def write_results(lines):
    with open(os.path.join(OUT, "results.md"), "w") as file:
        file.write("\n".join(lines) + "\n\n" + table() + "\n")
    with open(os.path.join(OUT, "results.json"), "w") as file:
        json.dump(ROWS, file, ensure_ascii=False, indent=1)


def cpu_seconds(pid):
    """Processor time that a process has used, its children's not counted."""
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def server_cpu():
    """Processor time of all server processes that have ended, in seconds: what a run of pgbench costs is a difference of two."""
    with connect("postgres") as cur:
        cur.execute("select pg_read_file('postmaster.pid')")
        pid = int(cur.fetchone()[0].split()[0])
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid):
    """The most memory of its own that a process had, in MB: not the buffers it shares."""
    with open("/proc/%d/status" % pid) as file:
        rows = dict(line.split(":", 1) for line in file)
    return int(rows["RssAnon"].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit("run test/bench/run")
