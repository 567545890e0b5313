"""`python3 -m jobs chaos`: sends real entries and orders to a fleet that is killed, stopped and starved, and judges it.

The history and the logs stay in --folder; a run is made again with its --seed, as far as processes are deterministic.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import by_hand  # noqa: F401  finds the modules below
import campaign
from campaign import Plan, State
from history import Op
from load import Rates

EVERY_S = 10.0
ON_A_SCREEN_S = 1.0
LINES = 400
SINGLES = 20.0
"""Entries a second that come one by one, when a total is asked for; the others come in bodies of LINES."""


class Progress:
    """A line every ten seconds; on a screen one line that changes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said_at = 0.0
        self._screen = sys.stderr.isatty()

    def say(self, doing: str, state: State) -> None:
        """Says how far the run has come, when it is time."""
        now = time.monotonic()
        if now - self._said_at < (ON_A_SCREEN_S if self._screen else EVERY_S):
            return
        self._said_at, answered = now, state.load.answered
        entries = answered[Op.ENTRY] + answered[Op.ENTRIES]
        line = f"{_clock(now - state.began_at)} of {_clock(self._seconds)}: {doing}; {answered[Op.ORDER]:,} orders and "
        line += f"{entries:,} entries accepted, {state.faults.total()} faults, {state.kills} of them SIGKILLs"
        print(f"\r{line:<120}" if self._screen else line, end="" if self._screen else "\n", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"


def plan(argv: list[str]) -> tuple[Plan, Path, Path | None]:
    """What the command line asks for: the plan, the folder to keep, and the file for the verdict."""
    parser = argparse.ArgumentParser(
        prog="python3 -m jobs chaos", description=(__doc__ or "").partition(":")[2].partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long there are faults (5)")
    parser.add_argument("--seed", type=int, default=1, help="which faults, to whom, and what is sent (1)")
    parser.add_argument("--kills", type=int, default=0, help="go on until there were so many SIGKILLs")
    parser.add_argument("--orders", type=int, default=1_500, help="how many to send, spread over the minutes (1500)")
    parser.add_argument("--entries", type=int, default=30_000, help="how many to send, spread over the minutes (30000)")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="always", help="of Redis' append-only file (always)")
    parser.add_argument("--without-stock", action="store_true", help="no unmodified rq.Worker beside ours")
    parser.add_argument("--folder", type=Path, help="a new folder for history and logs (one under the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="write the verdict there, too")
    given = parser.parse_args(argv)
    seconds = 60 * given.minutes
    singles = min(SINGLES, given.entries / seconds)
    rates = Rates(orders=given.orders / seconds, entries=singles, bodies=(given.entries / seconds - singles) / LINES, lines=LINES)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="turnstile-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    return (
        Plan(seconds, given.seed, rates, kills=given.kills, fsync=given.fsync, stock=not given.without_stock),
        folder,
        given.json,
    )


def main(argv: list[str]) -> int:
    """0 when nothing was lost or doubled, 1 when something was. A run that fails shows why, which is 1, too."""
    asked, folder, report = plan(argv)
    print(f"{_clock(asked.seconds)} of faults with the seed {asked.seed}; history and logs are in {folder}", file=sys.stderr)
    verdict = campaign.run(asked, folder, Progress(asked.seconds).say)
    print(f"\nseed {asked.seed}, appendfsync {asked.fsync}\n{verdict}")
    if report:
        report.write_text(json.dumps(verdict.plain(), indent=1))
    return verdict.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
