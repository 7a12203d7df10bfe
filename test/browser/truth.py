#!/usr/bin/python3
"""What the dashboards must show of the simulated account, told without the warehouse.

The simulator's history is made anew from the header of its truth file (the same
seed gives the same account), told as facts and judged by the naive judge of
test/property by the rules of idrive.py (see lived.py).  From that every figure of
every page is counted here, page by page; dashboards.mjs fails over a figure on a
page that this file does not tell.

usage: truth.py TRUTH.jsonl [AS_OF]      prints JSON; AS_OF = unix seconds up to which the warehouse knows; the first
                                         load was at the simulated now that the file names
       truth.py --sources                prints the table of docs/dashboards.md: each figure and where its truth comes from
"""

import json
import sys

sys.dont_write_bytecode = True

import lived                                                    # noqa: E402
import pages                                                    # noqa: E402
from population import history                                  # noqa: E402


def main():
    lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    meta = lines[0]["meta"]
    world = history(meta["seed"], meta["start"], meta["days"], meta["deals"])
    now = int(sys.argv[2]) if len(sys.argv) > 2 else meta["now"]
    leads = lived.read(world, now)
    lived.judge(leads, now)

    # three tell of the breaches: the stories that were meant, the file written before the sync, the judge
    meant = {(b.lead.id, b.rule, b.at, b.manager) for b in world.breaches if b.at <= now}
    written = {(row["deal_id"], row["rule"], row["breached_at"], row["manager_id"])
               for row in (line.get("later", line) for line in lines) if "deal_id" in row}
    judged = {(lead.id, d.rule, d.breached, d.manager) for lead in leads.values() for d in lead.duties if d.breached is not None}
    if meant != {w for w in written if w[2] <= now}:
        sys.exit("the history made here is not the one that the truth file tells")
    if meant != judged:
        sys.exit(f"the naive judge finds other breaches than the stories tell: {sorted(map(str, meant ^ judged))[:5]}")

    truth = pages.Truth(world, leads, now, meta["now"])
    pages.check_named(truth.pages())
    json.dump({"as_of": now, "pages": truth.pages(), "filters": truth.filters(), "stories": truth.stories(),
               "rules": {code: {"severity": r["severity"], "of": r["of"], "stage": r["stage"]} for code, r in lived.idrive.BOOK.items()}},
              sys.stdout, ensure_ascii=False)


if sys.argv[1:] == ["--sources"]:
    print(pages.sources())
else:
    main()
