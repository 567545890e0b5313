"""`python3 -m jobs demo`: one real day of footfall and the shipped orders against a running system, proved to add up.

Ends with 0 when everything adds up, 1 when something does not (and says what), 2 when no usable system answers.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Sequence

import httpx

from jobs.demo import plan, sample
from jobs.demo.api import Api, NoAnswer, Unexpected, open_client
from jobs.demo.progress import Progress
from jobs.demo.replay import Replay
from jobs.demo.table import table
from jobs.demo.verdict import discrepancies

ADDS_UP, DOES_NOT, NO_SYSTEM, INTERRUPTED = 0, 1, 2, 130
DEFAULT_SPEED = 4_000.0
SPEEDS = (2.0, 1e9)
"""Below the first an entry would carry a time that lies ahead of its sending."""
MAX_SHOWN = 20


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    days = sample.footfall()
    options = _options(argv, days)
    try:
        return asyncio.run(_demo(options, days[options.day]))
    except KeyboardInterrupt:
        print("\ndemo: interrupted; what was accepted is still worked off", file=sys.stderr)
        return INTERRUPTED


async def _demo(options: argparse.Namespace, slots: Sequence[sample.Slot]) -> int:
    async with open_client(options.url, options.api_key) as client:
        try:
            await Api(client, give_up_at=0).get("/v1/footfall/summary")
        except (NoAnswer, Unexpected) as error:
            print(f"demo: no usable Turnstile at {options.url}: {error}\n{_advice(error)}", file=sys.stderr)
            return NO_SYSTEM
        run_id = secrets.token_hex(4)
        gate = f"north-{run_id}"
        day = plan.Day(time.time(), options.speed)
        posts = plan.plan_entries(slots, day, run_id, gate)
        orders = sample.orders()
        expected = plan.expect(slots, posts, orders)
        what = f"{expected.entries} people through gate {gate} and {len(orders)} orders"
        print(f"{options.day}: {what}, in {day.lasts_s:.0f} s to {options.url}", flush=True)
        replay = Replay(
            Api(client), day, posts, orders, expected, run_id=run_id, gate=gate, settle_s=options.timeout, progress=Progress()
        )
        took = await replay.run()
    print(f"\n{table(expected, replay.seen, took)}\n")
    return _conclude(discrepancies(expected, replay.seen))


def _conclude(found: Sequence[str]) -> int:
    if not found:
        print("Everything adds up.")
        return ADDS_UP
    print(f"Does not add up ({len(found)}):")
    for line in found[:MAX_SHOWN]:
        print(f"  - {line}")
    if len(found) > MAX_SHOWN:
        print(f"  and {len(found) - MAX_SHOWN} more")
    return DOES_NOT


def _advice(error: NoAnswer | Unexpected) -> str:
    if isinstance(error, Unexpected) and error.status in (401, 403):
        return "Give a key that the system knows: --api-key KEY."
    return "Start one with `python3 -m jobs up`, or name a running one with --url."


def _options(argv: Sequence[str], days: dict[str, list[sample.Slot]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m jobs demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", type=_url, default="http://127.0.0.1:8000", help="the running system (%(default)s)")
    parser.add_argument("--speed", type=_speed, default=DEFAULT_SPEED, help="seconds of the day in one second (%(default)g)")
    parser.add_argument("--day", default="2005-11-01", help=f"{min(days)} to {max(days)} (%(default)s)")
    parser.add_argument("--api-key", help="sent as a bearer token")
    parser.add_argument("--timeout", type=_seconds, default=300.0, help="seconds after the day's end to wait (%(default)g)")
    options = parser.parse_args(argv)
    if options.day not in days:
        parser.error(f"argument --day: no footfall for {options.day!r}; the sample has {min(days)} to {max(days)}")
    return options


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError("an http:// or https:// URL is needed")
    return text.rstrip("/")


def _speed(text: str) -> float:
    speed = _seconds(text)
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise argparse.ArgumentTypeError(f"must lie between {SPEEDS[0]:g} and {SPEEDS[1]:g}")
    return speed


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("a number of zero or more is needed")
    return number
