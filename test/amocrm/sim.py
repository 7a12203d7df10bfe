#!/usr/bin/python3
"""A simulated amoCRM account of a driving school.  See README.md."""

import argparse
import asyncio
import json
import signal
import ssl
import sys
from collections import Counter
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from aiohttp import web                                         # noqa: E402

import school                                                   # noqa: E402
from api import Api, Tokens                                     # noqa: E402
from population import history                                  # noqa: E402
from world import Breach, Kept, World                           # noqa: E402
from worktime import DAY, ZONE                                  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=30, help="simulated days")
    parser.add_argument("--deals", type=int, default=2000)
    parser.add_argument("--start", type=date.fromisoformat, default=date(2026, 3, 2), help="first day, YYYY-MM-DD")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--port-file", type=Path, help="where to write the port once it listens")
    parser.add_argument("--account-id", type=int, default=school.ACCOUNT_ID, help="number of the account")
    parser.add_argument("--token", default="token", help="the long-lived token that is accepted")
    parser.add_argument("--client-id", default="client")
    parser.add_argument("--client-secret", default="secret")
    parser.add_argument("--code", default="code", help="the authorization code, good for one exchange")
    parser.add_argument("--truth", type=Path, help="where to write what really happened (JSON lines)")
    parser.add_argument("--rate", type=int, default=7, help="requests a second, 0: no limit")
    parser.add_argument("--events-limit", type=int, default=100, help="most events on a page")
    parser.add_argument("--raw-oddities", action="store_true", help="names with NUL and half surrogates")
    parser.add_argument("--checklist", action="store_true", help="deals for what no story does; at least three days")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="the same account over TLS, on another port")
    parser.add_argument("--no-serve", action="store_true", help="write the truth and end")
    return parser.parse_args()


def truth(world: World, options: argparse.Namespace) -> list[dict]:
    """The header, the breaches by time, the rules kept to the second, and what falls due after the simulated now."""
    def breach(row: Breach) -> dict:
        return {"deal_id": row.lead.id, "rule": row.rule, "task_id": row.task and row.task.id, "breached_at": row.at,
                "manager_id": row.manager, "why": row.why}

    def kept(row: Kept) -> dict:
        return {"deal_id": row.lead.id, "rule": row.rule, "due_at": row.due, "met_at": row.met, "why": row.why}

    rows = sorted(world.breaches, key=lambda row: (row.at, row.lead.id, row.rule))
    past = [row for row in rows if row.at <= world.end]
    meta = {"account_id": school.ACCOUNT_ID, "seed": options.seed, "start": world.start, "days": options.days,
            "deals": options.deals, "now": world.end, "rules": dict(sorted(Counter(row.rule for row in past).items())),
            "stories": dict(sorted(Counter(name for _, name in world.told).items()))}
    return [{"meta": meta}, *map(breach, past), *({"kept": kept(row)} for row in world.kept),
            *({"later": breach(row)} for row in rows if row.at > world.end),
            *({"story": {"deal_id": lead.id, "name": name}} for lead, name in world.told)]


async def serve(api: Api, options: argparse.Namespace) -> None:
    runner = web.AppRunner(api.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=256).start()
    port = runner.addresses[0][1]
    api.tokens.api_domain = f"127.0.0.1:{port}"
    if options.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*options.tls)
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=256, ssl_context=context).start()
        api.tls_port = runner.addresses[1][1]
    if options.port_file:
        waiting = options.port_file.with_name(options.port_file.name + ".new")
        waiting.write_text(f"{port}\n")
        waiting.rename(options.port_file)
    print(f"amoCRM simulator ready at http://127.0.0.1:{port} now={api.shown.now}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    options = arguments()
    school.ACCOUNT_ID = options.account_id
    start = (options.start - date(1970, 1, 1)).days * DAY - ZONE
    world = history(options.seed, start, options.days, options.deals, options.checklist)
    if options.truth:
        options.truth.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in truth(world, options)))
    if options.no_serve:
        return
    tokens = Tokens(options.token, options.client_id, options.client_secret, options.code)
    api = Api(world, tokens, rate=options.rate, events_limit=options.events_limit, raw=options.raw_oddities)
    asyncio.run(serve(api, options))


if __name__ == "__main__":
    main()
