"""One deal: judge(), check_move(), allowed_moves() beside a primary-key read of the deal, by pgbench with prepared statements."""
import os
import re
import subprocess

import generate
from lib import OUT, at_most, connect, interleaved, scaled

REPEATS = 7
SIDES = {
    "read": "select * from regcrm.deal where account_id = {a} and id = :d;",
    "judge()": "select * from regcrm.judge({a}, :d);",
    "check_move()": "select * from regcrm.check_move({a}, :d, 'lost');",
    "allowed_moves()": "select * from regcrm.allowed_moves({a}, :d);",
}


def ids(database, n=64):
    """Open deals, spread over the table."""
    with connect(database) as cur:
        cur.execute("select id from regcrm.deal where account_id = %s and stage::text in ('deciding', 'meeting', 'deferred') order by hashint8(id) limit %s",
                    (generate.ACCOUNT, n))
        return [id_ for id_, in cur.fetchall()]


def latency(database, name, deals, transactions=400):
    """Mean latency in ms of one statement; each transaction reads another deal."""
    pick = "".join("\\if :n %% %d = %d\n\\set d %d\n\\endif\n" % (len(deals), i, id_) for i, id_ in enumerate(deals))
    script = os.path.join(OUT, "point.sql")
    with open(script, "w") as file:
        file.write("\\set n random(0, 1000000000)\n" + pick + SIDES[name].format(a=generate.ACCOUNT) + "\n")
    out = subprocess.run(["pgbench", "-n", "-M", "prepared", "-r", "-t", str(transactions), "-f", script, database],
                         text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if out.returncode:
        raise RuntimeError(out.stderr)
    return float(re.search(r"^ +([\d.]+) +\d* +select", out.stdout, re.M).group(1))


def measure(database, repeats=REPEATS):
    deals = ids(database)
    return interleaved(repeats, **{name: lambda name=name: latency(database, name, deals) for name in SIDES})[0]


def run():
    database = generate.warehouse(scaled(1_000_000, 2000))
    median = measure(database)
    for name in list(SIDES)[1:]:
        at_most("one deal: " + name, "a primary-key read of the deal", median[name], median["read"], "ms", 5)
