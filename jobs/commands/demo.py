"""`python3 -m jobs demo`: one real day of footfall and the shipped orders against a running system, proved to add up.

Ends with 0 when everything adds up, 1 when something does not (and says what), 2 when no usable system answers.
"""

import argparse
import asyncio
import math
import secrets
import sys
import time
from collections.abc import Sequence

import click
import httpx

from jobs.demo import plan, sample, verdict
from jobs.demo.api import Api, RequestFailed
from jobs.demo.replay import Replay
from jobs.mall.footfall import Summary
from jobs.settings import LOOPBACK

NO_SYSTEM = 2
MIN_SPEED = 2.0
"""Below it an entry would carry a time that lies ahead of its sending."""
PATIENCE_S = 300.0
"""Seconds after the end of the day in which everything must have ended."""
MAX_CONNECTIONS = 16
MAX_SHOWN = 20


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    days = sample.footfall()
    parser = argparse.ArgumentParser(prog="python3 -m jobs demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the running system (%(default)s)")
    parser.add_argument("--speed", type=float, default=4_000.0, help="seconds of the day in one second (%(default)g)")
    parser.add_argument("--day", default="2005-11-01", help=f"{min(days)} to {max(days)} (%(default)s)")
    parser.add_argument("--api-key", help="sent as a bearer token")
    options = parser.parse_args(argv)
    if options.day not in days:
        parser.error(f"--day: no footfall for {options.day}; the sample has {min(days)} to {max(days)}")
    if not MIN_SPEED <= options.speed < math.inf:
        parser.error(f"--speed: must be at least {MIN_SPEED:g}")
    try:
        return asyncio.run(_demo(options, days[options.day]))
    except (httpx.InvalidURL, RequestFailed) as error:
        print(f"demo: no usable Turnstile at {options.url}: {error}", file=sys.stderr)
        print("Start one with `python3 -m jobs up`, or name one with --url (and its key with --api-key).", file=sys.stderr)
        return NO_SYSTEM


async def _demo(options: argparse.Namespace, slots: Sequence[int]) -> int:
    """Raises RequestFailed when the system does not answer before anything is sent."""
    async with _open_client(options.url, options.api_key) as client:
        await Api(client, give_up_at=0).get("/v1/footfall/summary", Summary)
        run = plan.Run(secrets.token_hex(4), time.time(), options.speed)
        posts, orders = plan.plan_entries(slots, run), sample.orders()
        print(f"{options.day}: {sum(slots)} people through gate {run.gate} and {len(orders)} orders", flush=True)
        api = Api(client, time.monotonic() + run.lasts_s + PATIENCE_S)
        total = len(posts) + len(orders)
        with click.progressbar(length=total, label=f"to {options.url}", item_show_func=lambda note: note) as bar:
            replay = Replay(api, run, lambda done, note: bar.update(done - bar.pos, note))
            await replay.run(posts, orders)
    figures = verdict.figures(slots, posts, orders, replay.seen)
    print(f"\n{verdict.table(figures, replay.seen)}\n")
    wrong = verdict.discrepancies(figures, replay.seen)
    print("\n  - ".join([f"Does not add up in {len(wrong)} points:", *wrong[:MAX_SHOWN]]) if wrong else "Everything adds up.")
    return int(bool(wrong))


def _open_client(url: str, api_key: str | None) -> httpx.AsyncClient:
    """A client with a bounded pool; a request may wait in it as long as it must. Proxies are not asked for this machine."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx.Timeout(15.0, connect=3.0, pool=None),
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        trust_env=httpx.URL(url).host not in LOOPBACK,
    )
