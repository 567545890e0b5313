"""What the demo plans to send: the record's people exactly, at times that the API takes, with known faults."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jobs.demo import plan, sample
from jobs.demo.plan import EntryPost, Run
from jobs.demo.sample import SampleOrder
from jobs.demo.verdict import Seen, figures
from jobs.errors import InvalidField
from jobs.mall import entries
from jobs.mall.orders import Line, OrderRequest, problems
from jobs.settings import Settings

DAYS = sample.footfall()
RUN = Run("run", started_at=1_800_000_000.0, speed=4_000.0)


def bodies(posts: list[EntryPost], *, broken: bool = False) -> list[dict[str, Any]]:
    numbered = ((number, line, post) for post in posts for number, line in enumerate(post.lines, start=1))
    return [json.loads(line) for number, line, post in numbered if (number in post.broken) is broken]


def at(body: dict[str, Any]) -> float:
    return datetime.fromisoformat(body["at"]).timestamp()


@pytest.mark.parametrize("date", DAYS)
def test_every_person_of_every_day_becomes_one_distinct_event_within_its_half_hour(date: str) -> None:
    slots = DAYS[date]
    sent = bodies(plan.plan_entries(slots, RUN))
    by_id = {body["event_id"]: body for body in sent}
    per_slot = Counter(int((at(body) - RUN.at(0)) / plan.WINDOW_S * 48 + 1e-6) for body in by_id.values())
    assert per_slot == Counter({number: people for number, people in enumerate(slots) if people})
    assert all(body["gate"] == "north-run" and body["direction"] == "in" for body in sent)


def test_no_entry_is_older_than_a_day_or_ahead_of_its_sending_even_an_hour_late() -> None:
    for speed in (2.0, 4_000.0, 1e9):
        run = Run("run", 1_800_000_000.0, speed)
        for post in plan.plan_entries(DAYS["2005-11-01"], run):
            sent_at = run.started_at + post.due_s
            for body in bodies([post]):
                assert -0.001 <= sent_at - at(body) <= 82_800 + run.lasts_s
                assert at(body) >= run.started_at - plan.DAY_S, "the replay asks for the count from there on"


def test_the_same_run_id_gives_the_same_plan_and_another_one_other_event_ids() -> None:
    slots = DAYS["2005-11-01"]
    one, again, other = (plan.plan_entries(slots, Run(run, 1_800_000_000.0, 4_000.0)) for run in ("a", "a", "b"))
    assert one == again
    assert not {body["event_id"] for body in bodies(one)} & {body["event_id"] for body in bodies(other)}


def test_posts_are_in_order_of_time_some_single_some_batches_and_within_the_replay() -> None:
    posts = plan.plan_entries(DAYS["2005-11-01"], RUN)
    assert [post.due_s for post in posts] == sorted(post.due_s for post in posts)
    assert {len(post.lines) > 1 for post in posts} == {True, False}
    assert posts[-1].due_s <= RUN.lasts_s + plan.AGAIN_AFTER_S / RUN.speed


def test_the_expected_figures_are_the_ones_of_the_record_and_of_the_lines_sent() -> None:
    slots, orders = DAYS["2005-11-01"], sample.orders()
    posts = plan.plan_entries(slots, RUN)
    sent = bodies(posts)
    people, broken = len({body["event_id"] for body in sent}), len(bodies(posts, broken=True))
    refused = sum(any(line.quantity <= 0 for line in order.lines) for order in orders)
    assert people == sum(slots) and len(sent) > people and broken > 0 and refused > 0 and len(orders) == 400
    expected = [due for _name, due, _was in figures(slots, posts, orders, Seen())]
    assert expected == [people, len(sent), people, 0, broken, 400 - refused, 400 - refused, refused]


def test_an_event_lost_from_the_plan_does_not_lower_what_is_expected() -> None:
    assert ("entries counted", 3, 0) in figures([3], plan.plan_entries([3], RUN)[:-1], [], Seen())


def test_broken_lines_have_no_gate_and_never_share_an_id_with_a_good_one() -> None:
    posts = plan.plan_entries(DAYS["2005-11-01"], RUN)
    broken = bodies(posts, broken=True)
    assert all(body["gate"] == "" for body in broken)
    assert not {body["event_id"] for body in broken} & {body["event_id"] for body in bodies(posts)}


@pytest.mark.parametrize(("quantities", "refusable"), [((1, 2), False), ((1, 0), True), ((-1,), True)])
def test_an_order_is_refusable_when_a_quantity_is_zero_or_below(quantities: tuple[int, ...], refusable: bool) -> None:
    assert SampleOrder([Line("sku", quantity) for quantity in quantities]).refusable is refusable


def test_orders_are_sent_as_recorded_but_for_their_date() -> None:
    def without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if value is not None and name != "ordered_on"}

    raw = [json.loads(line, object_hook=without_nulls) for line in (sample.DATA_DIR / "orders.jsonl").read_text().splitlines()]
    assert [json.loads(order.body) for order in sample.orders()] == raw


def test_the_mall_refuses_exactly_the_orders_that_the_demo_expects_it_to_and_for_their_quantity() -> None:
    for order in sample.orders():
        request = msgspec.json.decode(order.body, type=OrderRequest)
        found = problems(request, Settings())
        assert bool(found) is order.refusable
        assert all("quantity" in problem.field for problem in found)


def test_the_mall_takes_every_planned_entry_but_the_broken_ones() -> None:
    for post in plan.plan_entries(DAYS["2005-11-01"], RUN):
        for number, line in enumerate(post.lines, start=1):
            try:
                entries.parse(line, settings=Settings(), zone=UTC, now=RUN.started_at + post.due_s)
            except InvalidField as error:
                assert (error.field, number in post.broken) == ("gate", True)
            else:
                assert number not in post.broken
