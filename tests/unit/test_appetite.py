"""How many jobs a worker asks for: never too many, ahead only of short ones, and none ahead after a pause."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.appetite import AHEAD_S, MAX_AHEAD, MAX_CLAIM, SOON_S, WINDOW_S, Appetite

moves = st.lists(
    st.one_of(
        st.tuples(st.just("ended"), st.integers(0, 500)),
        st.tuples(st.just("claimed"), st.integers(0, MAX_CLAIM)),
        st.tuples(st.just("stuck"), st.just(0)),
        st.tuples(st.just("wanted"), st.integers(0, 400)),
    ),
    max_size=40,
)


@given(size=st.integers(0, 300), moves=moves, steps=st.lists(st.floats(0, 10), min_size=40, max_size=40))
def test_whatever_happens_it_asks_for_no_negative_number_and_for_no_more_than_one_claim_takes(
    size: int, moves: list[tuple[str, int]], steps: list[float]
) -> None:
    now = 100.0
    appetite = Appetite(now)
    for (what, number), step_s in zip(moves, steps, strict=False):
        now += step_s
        match what:
            case "ended":
                appetite.ended(number)
            case "claimed":
                appetite.claimed(number, MAX_CLAIM, now)
            case "stuck":
                appetite.stuck(now)
            case _:
                assert max(0, min(size - number, MAX_CLAIM)) <= appetite.wanted(size, number, now) <= MAX_CLAIM


@given(size=st.integers(1, 100), in_hand=st.integers(0, 100))
def test_a_worker_that_has_ended_nothing_fills_its_places_and_no_more(size: int, in_hand: int) -> None:
    appetite = Appetite(0.0)
    assert appetite.wanted(size, in_hand, 1.0) == max(0, size - in_hand)


def working(rate: float, for_s: float) -> tuple[Appetite, float]:
    """After jobs have ended evenly for a while, so many a second."""
    now, owed = 0.0, 0.0
    appetite = Appetite(now)
    while now < for_s:
        now += WINDOW_S / 5
        owed += rate * WINDOW_S / 5
        appetite.ended(int(owed))
        owed -= int(owed)
        appetite.wanted(1, 1, now)
    return appetite, now


@given(st.floats(0.1, 90.0))
def test_no_job_is_taken_ahead_of_jobs_that_are_long(rate: float) -> None:
    appetite, now = working(rate, 2.0)
    assert appetite.wanted(1, 1, now) == 0


@given(st.integers(400, 9_000))
def test_as_many_are_taken_ahead_as_end_in_a_moment(rate: int) -> None:
    appetite, now = working(rate, 2.0)
    ahead = appetite.wanted(1, 1, now)
    assert rate * AHEAD_S * 0.7 - 1 <= ahead <= rate * AHEAD_S * 1.3 + 1


@given(st.floats(0.02, 0.2))
def test_after_a_pause_nothing_is_taken_ahead(look_s: float) -> None:
    appetite, now = working(5_000.0, 1.0)
    assert appetite.wanted(1, 1, now) > 0
    looks = [appetite.wanted(1, 1, now + look_s * number) for number in range(1, int(0.6 / look_s) + 2)]
    assert (looks[-1], looks) == (0, sorted(looks, reverse=True))


def test_what_cannot_begin_is_not_claimed_again_at_once() -> None:
    appetite, now = working(5_000.0, 1.0)
    appetite.claimed(50, 50, now)
    appetite.stuck(now)
    assert (appetite.wanted(1, 1, now + 0.001), appetite.wanted(1, 0, now + 0.001)) == (0, 1)


def test_a_claim_that_was_full_and_is_done_at_once_is_followed_by_a_larger_one() -> None:
    appetite = Appetite(0.0)
    appetite.claimed(10, 10, 1.0)
    assert appetite.wanted(10, 0, 1.0 + SOON_S / 2) == 30
    assert appetite.wanted(10, 1, 1.0 + SOON_S / 2) == 9
    assert appetite.wanted(10, 0, 1.0 + 2 * SOON_S) == 10
    appetite.claimed(9, 10, 2.0)
    assert appetite.wanted(10, 0, 2.0) == 10


def test_jobs_ahead_are_bounded() -> None:
    appetite, now = working(1e6, 1.0)
    assert appetite.wanted(1, MAX_AHEAD, now) == 1
