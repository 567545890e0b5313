"""Does the harness bite: each planted bug is caught by its checker, and the product without it passes the same scenes."""

import os
from pathlib import Path

import msgspec
import pytest
from planted_bugs import BUGS, HAND_OVER_OUTSIDE, Bug, Edit, plant
from planted_scenes import SCENES
from processes import ROOT, Processes

LIMIT_S = 360.0
"""All scenes together take a minute or two."""
pytestmark = pytest.mark.timeout(LIMIT_S + 60)


def played(processes: Processes, redis_url: str, port: int, tree: Path, *scenes: str) -> dict[str, list[str]]:
    """What the checker finds when the product in the folder plays the scenes."""
    path = os.pathsep.join(map(str, (tree, ROOT / "tests", ROOT / "tests" / "chaos")))
    environ = {"REDIS_URL": redis_url, "CARRIER_URL": f"http://127.0.0.1:{port}", "PYTHONPATH": path}
    quick = {"TURNSTILE_BACKOFF_BASE_S": "0.01", "TURNSTILE_CARRIER_TIMEOUT_S": "2", "TURNSTILE_STEP_MAX_ATTEMPTS": "3"}
    process = processes.start("python", str(ROOT / "tests/chaos/planted_scenes.py"), *scenes, **environ, **quick)
    assert process.ended(LIMIT_S) == 0, process.output
    said = msgspec.json.decode(process.output.splitlines()[-1])
    assert said["product"] == str(tree), "another product was played"
    found: dict[str, list[str]] = said["found"]
    return found


def test_the_product_passes_every_scene(processes: Processes, redis_url: str, free_port: int) -> None:
    found = played(processes, redis_url, free_port, ROOT)
    assert found == {name: [] for name in SCENES}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_caught(bug: Bug, processes: Processes, redis_url: str, free_port: int, tmp_path: Path) -> None:
    tree = plant(bug.edits, tmp_path / "tree")
    assert played(processes, redis_url, free_port, tree, bug.scene)[bug.scene]


def test_reconciliation_makes_up_for_a_hand_over_outside_the_script(
    processes: Processes, redis_url: str, free_port: int, tmp_path: Path
) -> None:
    tree = plant(HAND_OVER_OUTSIDE, tmp_path / "tree")
    assert played(processes, redis_url, free_port, tree, "killed_order") == {"killed_order": []}


def test_a_plant_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 0 times"):
        plant([Edit("jobs/keys.py", "no such line", "")], tmp_path / "tree")
