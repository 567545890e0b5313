"""Admission, the pure part: who is refused first, and that a limit once passed is left clearly before work is taken again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.admission import CALM, CALMER, Kind, Load, refusal

MAX_AGE_S, MAX_SHARE = 300.0, 0.9
QUEUES = ("entries", "picking", "packing", "delivery", "default", "picking.high")
LOADS = st.builds(Load, st.dictionaries(st.sampled_from(QUEUES), st.floats(0, 1_000)), st.floats(0, 1))


def refused(kind: Kind, load: Load, before: bool = False) -> bool:
    return refusal(kind, load, max_age_s=MAX_AGE_S, max_share=MAX_SHARE, refused=before) is not None


def test_calm_refuses_nobody() -> None:
    assert not any(refused(kind, CALM, before) for kind in Kind for before in (False, True))


@given(LOADS)
def test_background_jobs_are_given_up_before_orders(load: Load) -> None:
    if refused(Kind.ORDERS, load):
        assert refused(Kind.JOBS, load)


@given(st.floats(0, 1))
def test_entries_are_given_up_last_when_memory_runs_out(share: float) -> None:
    load = Load({}, share)
    if refused(Kind.ENTRIES, load):
        assert refused(Kind.ORDERS, load) and refused(Kind.JOBS, load)


@given(LOADS, st.sampled_from(Kind))
def test_what_was_refused_is_taken_again_only_below_its_limit(load: Load, kind: Kind) -> None:
    if refused(kind, load):
        assert refused(kind, load, before=True)
    calmer = Load({name: age * CALMER for name, age in load.ages_s.items()}, load.memory_share * CALMER)
    if not refused(kind, load):
        assert not refused(kind, calmer, before=True)


@pytest.mark.parametrize(
    ("queue", "kinds"),
    [
        ("entries", {Kind.ENTRIES}),
        ("picking.high", {Kind.ORDERS, Kind.JOBS}),
        ("delivery", {Kind.ORDERS, Kind.JOBS}),
        ("default", {Kind.JOBS}),
    ],
)
def test_a_backlog_refuses_only_the_work_that_it_concerns(queue: str, kinds: set[Kind]) -> None:
    assert {kind for kind in Kind if refused(kind, Load({queue: MAX_AGE_S + 1}, 0.0))} == kinds


def test_a_reason_says_what_is_full() -> None:
    said = refusal(Kind.ORDERS, Load({"packing": 301.0}, 0.0), max_age_s=MAX_AGE_S, max_share=MAX_SHARE)
    assert said == "the oldest job on queue packing has waited 301 s"
    assert refusal(Kind.ORDERS, Load({}, 0.91), max_age_s=MAX_AGE_S, max_share=MAX_SHARE) == "Redis has used 91% of its memory"
