"""How many more orders are worked off in time: known from the pace, and only from a pace that says something."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.backlog import Backlog, Stage

LIMIT_S = 10.0


def seen(*looks: tuple[int, int]) -> float:
    """The room after looking once a second at (ahead, passed)."""
    backlog = Backlog()
    return [backlog.room({"packed": Stage(*look)}, float(at), LIMIT_S) for at, look in enumerate(looks, 1)][-1]


def test_there_is_room_for_what_is_worked_off_within_the_limit() -> None:
    assert seen((500, 0), (600, 100)) == LIMIT_S * 100 - 600
    assert seen((5_000, 0), (6_000, 100)) < 0


@pytest.mark.parametrize(
    "looks",
    [
        [(0, 0)],
        [(500, 100)],
        [(0, 0), (500, 1)],
        [(5, 0), (0, 5)],
        [(500, 100), (600, 100), (700, 100)],
        [(500, 100), (500, 3)],
    ],
    ids=["idle", "once", "it was idle", "it is idle", "workers stand still", "another server"],
)
def test_what_says_nothing_of_the_pace_refuses_nobody(looks: list[tuple[int, int]]) -> None:
    assert seen(*looks) == math.inf


def test_the_pace_is_kept_while_the_workers_stand_still() -> None:
    assert seen((500, 0), (500, 100), (700, 100), (700, 100)) == LIMIT_S * 100 - 700


def test_the_slower_stage_decides() -> None:
    backlog = Backlog()
    backlog.room({"packed": Stage(100, 0), "delivered": Stage(100, 0)}, 1.0, LIMIT_S)
    assert backlog.room({"packed": Stage(100, 50), "delivered": Stage(300, 20)}, 2.0, LIMIT_S) == LIMIT_S * 20 - 300


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=2))
def test_the_room_follows_paces_that_were_seen(steps: list[tuple[int, int]]) -> None:
    passed, looks = 0, []
    for ahead, step in steps:
        passed += step
        looks.append((ahead, passed))
    paces = [step for _, step in steps[1:]]
    assert LIMIT_S * min(paces) - 1e-6 <= seen(*looks) + looks[-1][0] <= LIMIT_S * max(paces) + 1e-6
