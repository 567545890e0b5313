"""Options of tasks and calls: what makes no sense is refused where it is said, by the name of its field."""

import math
from typing import Any

import pytest

from jobs.errors import InvalidField
from jobs.queue.backoff import Backoff
from jobs.queue.options import Options
from jobs.queue.task import Task


def nothing() -> None:
    """Never runs."""


def made(**options: Any) -> Task:
    return Task(nothing, name="sample.nothing", options=Options(**options), retry=Backoff(), path="sample.nothing")


NONSENSE: list[tuple[str, Any]] = [
    ("queue", ""),
    ("queue", "a b"),
    ("queue", "a:b"),
    ("queue", "x" * 65),
    ("queue", 5),
    ("priority", "urgent"),
    ("priority", None),
    ("time_limit_s", 0),
    ("time_limit_s", -1.0),
    ("time_limit_s", math.nan),
    ("time_limit_s", math.inf),
    ("time_limit_s", "5"),
    ("soft_time_limit_s", 0),
    ("soft_time_limit_s", 180.0),
    ("soft_time_limit_s", True),
    ("expires_s", 0),
    ("expires_s", math.nan),
    ("expires_s", "soon"),
    ("result_ttl_s", -2),
    ("result_ttl_s", 1.5),
    ("result_ttl_s", math.inf),
    ("result_ttl_s", 10**18),
    ("time_limit_s", 1e18),
    ("unique", 1e18),
    ("unique", 0),
    ("unique", -1),
    ("unique", math.inf),
    ("unique", "yes"),
    ("unique", None),
    ("retry", 3),
    ("retry", Backoff),
]


@pytest.mark.parametrize(("field", "value"), NONSENSE, ids=[f"{field}={value!r:.20}" for field, value in NONSENSE])
def test_a_bad_value_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidField) as declared:
        Options(**{field: value})
    with pytest.raises(InvalidField) as called:
        made().options(**{field: value})
    assert (declared.value.field, called.value.field) == (field, field)


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(InvalidField, match="countdown"):
        made().options(countdown=3)


def test_a_call_keeps_the_tasks_options_but_for_those_that_it_names() -> None:
    calls = made(priority="low", expires_s=9.0).options(expires_s=3.0).options(ignore_result=True)
    assert calls.defaults == Options(priority="low", expires_s=3.0, ignore_result=True)


def test_a_limit_for_one_call_is_held_against_the_tasks_other_limit() -> None:
    assert made(time_limit_s=10.0).options(soft_time_limit_s=9.0).defaults.soft_time_limit_s == 9.0
    with pytest.raises(InvalidField, match=r"soft_time_limit_s: must lie below time_limit_s \(10\)"):
        made(time_limit_s=10.0).options(soft_time_limit_s=10.0)
    with pytest.raises(InvalidField, match="soft_time_limit_s"):
        made(time_limit_s=10.0, soft_time_limit_s=5.0).options(time_limit_s=4.0)


def test_a_job_of_a_priority_has_an_rq_queue_beside_its_queue() -> None:
    assert [Options(priority=priority).placed_on("mail") for priority in ("high", "normal", "low")] == [
        "mail.high",
        "mail",
        "mail.low",
    ]
    assert Options().placed_on("mail.low") == "mail.low"


def test_no_job_is_put_where_no_worker_looks_by_two_priorities_at_once() -> None:
    with pytest.raises(InvalidField, match=r"priority: 'mail\.low' is already the queue of a priority"):
        Options(priority="high").placed_on("mail.low")


def test_how_long_a_result_is_kept() -> None:
    assert Options(result_ttl_s=7).keeps_s() == 7
    assert Options(result_ttl_s=0).keeps_s() == 0
    assert Options(result_ttl_s=-1).keeps_s() == -1
    assert Options(result_ttl_s=7, ignore_result=True).keeps_s() == 0
    assert Options().keeps_s() == 500
