"""Sets a whole fleet that has a planted bug before the random nemesis: `python tests/chaos/planted.py [--seed S] [--bug NAME]`.

A run is one of the harness, on a copy of the product with the bug in it: the same load, faults, rest and checker.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import by_hand  # noqa: F401  finds the modules below
import campaign
from campaign import Plan, State
from planted_bugs import BUGS, Bug, plant

MISSED = "MISSED"
SHOWN = 120


def bitten(bug: Bug, plan: Plan) -> str:
    """One run with the bug; a row of a table: bug, faults, seconds, violations by kind with the first of each."""
    n_faults, began_at = 0, time.monotonic()

    def say(_doing: str, state: State) -> None:
        nonlocal n_faults
        n_faults = state.faults.total()

    with tempfile.TemporaryDirectory(prefix="turnstile-planted-") as name:
        folder = Path(name)
        tree = plant(bug.edits, folder / "tree")
        found = [(v.kind, f"{v.id}: {v.reason}") for v in campaign.run(plan, folder, say, tree).violations]
    kinds = Counter(kind for kind, _said in found).most_common()
    said = "; ".join(f"{n} {kind}: {dict(reversed(found))[kind][:SHOWN]}" for kind, n in kinds) or MISSED
    return f"| {bug.name} | {n_faults} | {time.monotonic() - began_at:.0f} | {said} |"


def main() -> int:
    """Prints the rows; 0 when all bugs were caught."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bug", choices=[bug.name for bug in BUGS], action="append", help="may be repeated (all of them)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults for each (60)")
    given = parser.parse_args()
    rows = [bug for bug in BUGS if given.bug is None or bug.name in given.bug]
    missed = 0
    for bug in rows:
        row = bitten(bug, Plan(given.seconds, given.seed))
        print(row, flush=True)
        missed += MISSED in row
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
