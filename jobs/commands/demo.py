"""`python3 -m jobs demo`: one real day of footfall and the shipped orders against a running system, proved to add up.

Ends with 0 when everything adds up, 1 when something does not (and says what), 2 when no usable system answers.
"""

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Sequence

import httpx

from jobs.demo import display, plan, sample
from jobs.demo.api import Api, RequestFailed
from jobs.demo.replay import Replay
from jobs.demo.verdict import discrepancies
from jobs.mall.footfall import Summary
from jobs.settings import LOOPBACK

ADDS_UP, DOES_NOT, NO_SYSTEM = 0, 1, 2
MIN_SPEED = 2.0
"""Below it an entry would carry a time that lies ahead of its sending."""
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
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds after the day's end to wait (%(default)g)")
    options = parser.parse_args(argv)
    if options.day not in days:
        parser.error(f"--day: no footfall for {options.day}; the sample has {min(days)} to {max(days)}")
    if not options.speed >= MIN_SPEED:
        parser.error(f"--speed: must be at least {MIN_SPEED:g}")
    try:
        return asyncio.run(_demo(options, days[options.day]))
    except (httpx.InvalidURL, RequestFailed) as error:
        print(f"demo: no usable Turnstile at {options.url}: {error}", file=sys.stderr)
        print("Start one with `python3 -m jobs up`, or name one with --url (and its key with --api-key).", file=sys.stderr)
        return NO_SYSTEM


async def _demo(options: argparse.Namespace, slots: Sequence[sample.Slot]) -> int:
    """Raises RequestFailed when the system does not answer before anything is sent."""
    run_id = secrets.token_hex(4)
    gate = f"north-{run_id}"
    async with _open_client(options.url, options.api_key) as client:
        await Api(client, give_up_at=0).get("/v1/footfall/summary", Summary)
        day = plan.Day(time.time(), options.speed)
        posts, orders = plan.plan_entries(slots, day, run_id, gate), sample.orders()
        expected = plan.expect(slots, posts, orders)
        what = f"{expected.entries} people through gate {gate} and {len(orders)} orders"
        print(f"{options.day}: {what}, in {day.lasts_s:.0f} s to {options.url}", flush=True)
        began = time.monotonic()
        replay = Replay(Api(client, began + day.lasts_s + options.timeout), day, run_id, gate, _show)
        await replay.run(posts, orders)
    print(f"\n{display.table(expected, replay.seen, time.monotonic() - began)}\n")
    return _conclude(discrepancies(expected, replay.seen))


def _open_client(url: str, api_key: str | None) -> httpx.AsyncClient:
    """A client with a bounded pool; a request may wait in it as long as it must. Proxies are not asked for this machine."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {api_key}"} if api_key else {})},
        timeout=httpx.Timeout(15.0, connect=3.0, pool=None),
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        trust_env=httpx.URL(url).host not in LOOPBACK,
    )


def _show(done: int, total: int, note: str) -> None:
    if sys.stdout.isatty():
        print(display.bar(done, total, note), end="", flush=True)


def _conclude(found: Sequence[str]) -> int:
    if not found:
        print("Everything adds up.")
        return ADDS_UP
    print("\n  - ".join([f"Does not add up in {len(found)} points:", *found[:MAX_SHOWN]]))
    return DOES_NOT
