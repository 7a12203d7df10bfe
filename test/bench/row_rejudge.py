"""rejudge() of a year where nothing changes, beside one ordered read of the same rows."""
import statistics
import threading
import time

import generate
from lib import at_most, connect, cpu_seconds, interleaved, peak_memory, row, say, scaled

REPEATS = 3
READ = "select count(*), max({at}) from (select * from regcrm.{table} where account_id = %d order by {key} offset 0) x" % generate.ACCOUNT
FACTS = (("deal", "created_at", "account_id, id"), ("task", "created_at", "account_id, deal_id, created_at"), ("event", "at", "account_id, deal_id, at"))
LEDGER = (("deadline", "arose_at", "account_id, deal_id"), ("violation", "arose_at", "account_id, deal_id"))


#: processor time of each side's runs, its own processes' only
CPU = {}


def rejudge(database, **settings):
    """How long it takes, and the most memory of its own that the server process had, in MB."""
    with connect(database, **settings) as cur:
        cur.execute("set client_min_messages = warning")
        cur.execute("select pg_backend_pid()")
        pid = cur.fetchone()[0]
        most, done = [0.0], threading.Event()

        def watch():
            while not done.wait(.2):
                most[0] = max(most[0], peak_memory(pid))
        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        cur.execute("select * from regcrm.rejudge(%s)", (generate.ACCOUNT,))
        seconds = time.perf_counter() - began
        CPU.setdefault("rejudge", []).append(cpu_seconds(pid))
        done.set()
        watcher.join()
        judged = cur.fetchone()
        if any(judged[1:]):
            raise RuntimeError("the generator's findings are not the judge's: %s" % (judged,))
        return seconds, most[0]


def read(database, tables, show=False):
    with connect(database, max_parallel_workers_per_gather="0", enable_indexonlyscan="off", work_mem="64MB") as cur:
        began = time.perf_counter()
        for table, at, key in tables:
            if show:
                cur.execute("explain " + READ.format(table=table, at=at, key=key))
                for line, in cur.fetchall():
                    say("  " + line)
            else:
                cur.execute(READ.format(table=table, at=at, key=key))
                cur.fetchone()
        seconds = time.perf_counter() - began
        if not show:
            cur.execute("select pg_backend_pid()")
            CPU.setdefault(tables, []).append(cpu_seconds(cur.fetchone()[0]))
        return seconds


def run():
    deals = scaled(1_000_000, 2000)
    small, large = generate.warehouse(max(2000, deals // 10)), generate.warehouse(deals)
    with connect(large) as cur:
        cur.execute("select (select count(*) from regcrm.deal), (select count(*) from regcrm.event)")
        ndeals, nevents = cur.fetchone()
    read(large, FACTS, show=True)
    _, memory_small = rejudge(small)
    _, memory_large = rejudge(large)
    median, figures = interleaved(REPEATS, rejudge=lambda: rejudge(large)[0], facts=lambda: read(large, FACTS),
                                  ledger=lambda: read(large, LEDGER))
    say("rejudge: %s" % figures)
    what = "rejudge() of %d deals, %d events, nothing changes" % (ndeals, nevents)
    at_most(what, "one ordered read of deals, tasks and events", median["rejudge"], median["facts"], "s", 3)
    ours, facts = statistics.median(CPU["rejudge"][2:]), statistics.median(CPU[FACTS])
    row("processor time of it", "that of the ordered read", ours, facts, "s", "%.2f" % (ours / facts), "", None)
    row("the same", "one ordered read of these and of the findings it compares", median["rejudge"], median["facts"] + median["ledger"], "s",
        "%.2f" % (median["rejudge"] / (median["facts"] + median["ledger"])), "", None)
    row("memory of it", "a tenth of the deals", memory_large, memory_small, "MB", "%.2f" % (memory_large / memory_small), "flat (≤ 1.2)",
        memory_large <= 1.2 * memory_small + 4)
    row("events a second of rejudge(), tables included", "pm4py's fastest (docs/performance.md)", nevents / median["rejudge"] / 1000, 220, "thousand",
        "%.2f" % (nevents / median["rejudge"] / 220_000), "≥ 10 ×", nevents / median["rejudge"] >= 2_200_000)
