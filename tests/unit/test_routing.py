"""Routing: which queue a task's jobs go to, by a table in the settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadSettings
from jobs.queue.routing import route
from jobs.settings import Settings

NAMES = st.from_regex(r"[a-z]{1,6}(\.[a-z]{1,6}){0,2}", fullmatch=True)


def test_a_task_that_no_entry_names_goes_where_it_was_declared() -> None:
    assert route("mail.send", "post", ()) == "post"
    assert route("mail.send", "post", (("mail", "a"), ("send", "b"), ("*.mail", "c"), ("Mail.*", "d"))) == "post"


def test_the_exact_name_beats_every_glob_wherever_it_stands() -> None:
    assert route("mail.send", "post", (("*", "all"), ("mail.*", "mail"), ("mail.send", "exact"))) == "exact"


def test_of_several_globs_the_first_that_fits_wins() -> None:
    table = (("report.*", "reports"), ("mail.*", "first"), ("*.send", "second"), ("*", "last"))
    assert [route(name, "post", table) for name in ("mail.send", "sms.send", "other")] == ["first", "second", "last"]


def test_a_glob_may_hold_question_marks_and_sets() -> None:
    table = (("mail.v?", "versions"), ("mail.[ab]*", "some"))
    assert [route(name, "post", table) for name in ("mail.v2", "mail.bulk", "mail.v22")] == ["versions", "some", "post"]


@given(NAMES, NAMES, st.lists(st.tuples(NAMES, NAMES), max_size=5))
def test_a_task_always_has_one_queue_of_the_table_or_its_own(name: str, declared: str, table: list[tuple[str, str]]) -> None:
    assert route(name, declared, table) in {declared, *(queue for _, queue in table)}
    assert route(name, declared, [*table, (name, "exact")]) == next((q for p, q in table if p == name), "exact")


def test_the_table_is_read_from_the_environment_in_its_order() -> None:
    read = Settings.from_env({"TURNSTILE_ROUTES": "mail.send=urgent, reports.* = slow.reports,*=rest"})
    assert read.routes == (("mail.send", "urgent"), ("reports.*", "slow.reports"), ("*", "rest"))
    assert Settings.from_env({"TURNSTILE_ROUTES": ""}).routes == Settings.from_env({}).routes == ()


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("mail", 1),
        ("mail=", 1),
        ("=queue", 1),
        ("a=b,", 2),
        ("a=b,c=d e", 2),
        ("a=b,c=d=e", 2),
        ("a=b;c", 1),
        ("a=" + "x" * 65, 1),
    ],
)
def test_an_entry_that_is_no_route_is_named(text: str, entry: int) -> None:
    with pytest.raises(BadSettings, match=f"TURNSTILE_ROUTES=.*: entry {entry}: must read task=queue, as in reports"):
        Settings.from_env({"TURNSTILE_ROUTES": text})
