"""How many may wait at once: a burst may, a standing queue may not, and a slow disk shuts nobody out."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from web.waiting import STEP, TARGET_S, Waiting

FLOOR, MOST = 16, 64
ANSWERED = st.lists(st.tuples(st.integers(1, MOST), st.floats(0, 3)), max_size=60)


def room(waiting: Waiting, now: float) -> int:
    """How many more are let in; they are in then."""
    found = 0
    while not waiting.full(now):
        waiting.begin(now)
        found += 1
    return found


def burst(waiting: Waiting, now: float, took_s: float) -> int:
    """As many as are let in, all answered so much later."""
    found = room(waiting, now)
    for _ in range(found):
        waiting.end(now + took_s)
    return found


def test_a_process_that_has_seen_nothing_takes_a_burst() -> None:
    assert room(Waiting(FLOOR, MOST), 0.0) == MOST


def test_it_says_how_many_may_wait() -> None:
    waiting = Waiting(FLOOR, MOST)
    room(waiting, 0.0)
    assert waiting.full(0.0) == MOST


def test_as_many_as_would_have_been_in_time_may_wait_after_one_was_late() -> None:
    waiting = Waiting(FLOOR, MOST)
    assert burst(waiting, 0.0, 2 * TARGET_S) == MOST
    assert room(waiting, 1.0) == FLOOR, "the first of them had waited too long with nobody before it"

    waiting = Waiting(FLOOR, MOST)
    for _ in range(MOST):
        waiting.begin(0.0)
    for place in range(1, MOST + 1):
        waiting.end(2 * TARGET_S * place / MOST)
    assert room(waiting, 1.0) == MOST // 2


@given(ANSWERED)
def test_never_fewer_than_the_floor_nor_more_than_the_most_may_wait(answered: list[tuple[int, float]]) -> None:
    waiting, now = Waiting(FLOOR, MOST), 0.0
    for number, took_s in answered:
        for _ in range(number):
            waiting.begin(now)
        now += took_s
        for _ in range(number):
            waiting.end(now)
    assert FLOOR <= room(waiting, now) <= MOST


def test_behind_one_that_waits_too_long_only_the_floor_is_let_in() -> None:
    waiting = Waiting(FLOOR, MOST)
    waiting.begin(0.0)
    assert room(waiting, 1.1 * TARGET_S) == FLOOR - 1


def test_answers_in_time_let_more_in_again() -> None:
    waiting = Waiting(FLOOR, MOST)
    burst(waiting, 0.0, 10 * TARGET_S)
    assert room(waiting, 1.0) == FLOOR
    for _ in range(FLOOR):
        waiting.end(1.0)
    for _ in range(int((MOST - FLOOR) / STEP)):
        waiting.begin(2.0)
        waiting.end(2.0)
    assert room(waiting, 3.0) == MOST


@given(st.floats(0.0004, 0.001))
def test_under_a_flood_nobody_waits_much_longer_than_the_target(service_s: float) -> None:
    waiting, queue, waits, now = Waiting(FLOOR, MOST), deque[float](), list[float](), 0.0
    for _ in range(2_000):
        while not waiting.full(now):
            waiting.begin(now)
            queue.append(now)
        now += service_s
        waits.append(now - queue.popleft())
        waiting.end(now)
    assert max(waits[4 * MOST :]) < 1.5 * TARGET_S, "after the first burst"
