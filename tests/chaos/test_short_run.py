"""A short run of the harness: real processes under load, killed, stopped and starved by a seed, and judged.

The long one is `python3 -m jobs chaos`; docs/reliability.md has its results.
"""

from pathlib import Path

import campaign
import pytest
from campaign import Plan, State
from load import Rates

SECONDS = 40.0
KILLS = 10
SNAPSHOTS = 50
"""A tenth of those that are taken on a machine that has nothing else to do."""
RATES = Rates(orders=4, entries=10, bodies=0.5, lines=200, jobs=1, canvases=0.2, items=0.5)


@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", [3])
def test_nothing_is_lost_and_nothing_is_done_twice_whatever_is_done_to_the_system(tmp_path: Path, seed: int) -> None:
    states: dict[str, State] = {}
    verdict = campaign.run(Plan(SECONDS, seed, RATES, kills=KILLS, stock=False), tmp_path, states.__setitem__)
    print(verdict)
    assert verdict.passed, str(verdict)
    # It would pass if nothing happened.
    assert states["tormenting"].kills >= KILLS
    assert {row.op for row in verdict.rows if row.answered} >= {"entry", "entries", "order", "cancel", "job", "item", "canvas"}
    assert verdict.snapshots > SNAPSHOTS
    assert verdict.orders["delivered"] > verdict.orders.get("dead", 0)
