"""Orders, the pure part: what a client may send, each refusal with its field, and the legal paths."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.mall import orders
from jobs.mall.orders import ENDED, TRANSITIONS, Line, OrderRequest, Status
from jobs.setting_values import WebhookSecret
from jobs.settings import Settings
from web.field_errors import field_errors

MAX_COUNTDOWN_S = 60.0
SETTINGS = Settings(max_countdown_s=MAX_COUNTDOWN_S, webhook_secrets=(WebhookSecret("", b"s" * 24),))


def refused(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Field and reason of all that is wrong with a body, as the web would answer."""
    found = []
    try:
        request = msgspec.json.decode(json.dumps(body), type=OrderRequest)
    except msgspec.ValidationError:
        found = field_errors(body, OrderRequest)
        request = orders.without(body, found)
    return [(problem.field, problem.reason) for problem in (*found, *orders.problems(request, SETTINGS))]


GOOD: dict[str, Any] = {"lines": [{"sku": "85123A", "quantity": 6}]}


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        {
            "reference": "536365",
            "customer": "17850",
            "country": "United Kingdom",
            "email": "a@b.example",
            "countdown_s": 0,
            "notify_url": "https://shop.example/hook?x=1",
            "lines": [{"sku": "85123A", "quantity": 100_000, "description": "", "unit_price": 2.55}, {"sku": "ü", "quantity": 1}],
        },
        {**GOOD, "countdown_s": MAX_COUNTDOWN_S},
        {"lines": [{"sku": "gift", "quantity": 1, "unit_price": 0}]},
    ],
)
def test_a_good_order_is_accepted(body: dict[str, Any]) -> None:
    assert refused(body) == []


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"lines": []}, "lines", "length >= 1"),
        ({"lines": [{"sku": "A", "quantity": 0}]}, "lines[0].quantity", "must lie between 1 and 100000, got 0"),
        ({"lines": [{"sku": "A", "quantity": -6}]}, "lines[0].quantity", "must lie between 1 and 100000, got -6"),
        ({"lines": [{"sku": "A", "quantity": 1}, {"sku": " ", "quantity": 1}]}, "lines[1].sku", "must not be empty"),
        ({"lines": [{"sku": "A", "quantity": 1.5}]}, "lines[0].quantity", "Expected `int`"),
        ({"lines": [{"sku": "A", "quantity": "1"}]}, "lines[0].quantity", "Expected `int`"),
        ({"lines": [{"sku": "A"}]}, "lines[0].quantity", "missing required field"),
        ({"lines": [{"sku": "A", "quantity": 1, "unit_price": -0.01}]}, "lines[0].unit_price", "must be zero or more"),
        ({"lines": [{"sku": "A\n", "quantity": 1}]}, "lines[0].sku", "must not hold control characters"),
        (
            {"lines": [{"sku": "A", "quantity": 1, "description": "x" * 501}]},
            "lines[0].description",
            "at most 500 characters, got 501",
        ),
        ({"lines": [{"sku": "A", "quantity": 1, "colour": "red"}]}, "lines[0].colour", "unknown field"),
        ({"reference": "x" * 129}, "reference", "at most 128 characters, got 129"),
        ({"customer": "a\x00"}, "customer", "must not hold control characters"),
        ({"email": "nobody"}, "email", "not an e-mail address"),
        ({"countdown_s": -1}, "countdown_s", "must lie between 0 and 60"),
        ({"countdown_s": 60.5}, "countdown_s", "must lie between 0 and 60"),
        ({"notify_url": "javascript:alert(1)"}, "notify_url", "must be an http:// or https:// URL with a host"),
        ({"notify_url": "http://[broken"}, "notify_url", "must be an http:// or https:// URL with a host"),
        ({"colour": "red"}, "colour", "unknown field"),
    ],
)
def test_a_bad_field_is_refused_by_name_with_the_reason(change: dict[str, Any], field: str, reason: str) -> None:
    [(named, said)] = refused({**GOOD, **change})
    assert named == field
    assert reason in said


def test_all_bad_fields_are_named_at_once() -> None:
    body = {"email": "x", "countdown_s": -1, "lines": [{"sku": "", "quantity": 0}, {"sku": "A", "quantity": 0}]}
    assert [field for field, _ in refused(body)] == [
        "email",
        "countdown_s",
        "lines[0].sku",
        "lines[0].quantity",
        "lines[1].quantity",
    ]


def test_a_sku_on_several_lines_is_needed_as_often_as_they_say_together() -> None:
    assert orders.quantities([Line("A", 2), Line("B", 1), Line("A", 3)]) == {"A": 5, "B": 1}


@given(
    st.lists(
        st.builds(
            Line,
            sku=st.text(),
            quantity=st.integers(1, 100_000),
            description=st.none() | st.text(),
            unit_price=st.none() | st.decimals(0, 10**6),
        ),
        max_size=5,
    )
)
def test_lines_survive_the_way_into_the_hash_and_back(lines: list[Line]) -> None:
    assert orders.decode_lines(orders.encode_lines(lines)) == lines


def test_every_status_has_its_legal_ways_and_the_ended_ones_have_none_but_a_redrive() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert {status for status in Status if not TRANSITIONS[status]} == ENDED - {Status.DEAD}
    assert TRANSITIONS[Status.DEAD].isdisjoint(ENDED)


def test_every_open_order_can_end_in_every_way_that_is_left_to_it() -> None:
    def reachable(status: Status) -> set[Status]:
        seen: set[Status] = set()
        todo = [status]
        while todo:
            for following in TRANSITIONS[todo.pop()] - seen:
                seen.add(following)
                todo.append(following)
        return seen

    for status in set(Status) - ENDED:
        assert {Status.DELIVERED, Status.DEAD} <= reachable(status)


def test_a_view_shows_what_the_hash_holds_and_the_due_time_only_while_it_waits() -> None:
    fields = {"reference": "r", "status": "scheduled", "step": "pick", "created_at": "1.5", "updated_at": "2.5", "due_at": "9.0"}
    attempt = b'{"step":"pick","attempt":1,"started_at":2,"ended_at":3,"worker":"w","error":"no"}'
    seen = orders.view("ord_1", fields, [attempt])
    assert (seen.id, seen.reference, seen.status, seen.step, seen.created_at, seen.updated_at) == (
        "ord_1",
        "r",
        "scheduled",
        "pick",
        1.5,
        2.5,
    )
    assert (seen.due_at, seen.tracking_number, seen.reason) == (9.0, None, None)
    assert (seen.attempts[0].error, seen.attempts[0].ended_at) == ("no", 3.0)
    assert orders.view("ord_1", {**fields, "status": "accepted"}, []).due_at is None


def test_every_bad_field_is_named_at_once() -> None:
    body = {
        "reference": 7,
        "email": "nobody",
        "countdown_s": "soon",
        "colour": "red",
        "lines": [{"sku": " ", "quantity": 1.5, "unit_price": "-1"}, "no line", {"quantity": 0}, {"sku": "A", "quantity": 1}],
    }
    assert sorted(field for field, _reason in refused(body)) == [
        "colour",
        "countdown_s",
        "email",
        "lines[0].quantity",
        "lines[0].sku",
        "lines[0].unit_price",
        "lines[1]",
        "lines[2].quantity",
        "lines[2].sku",
        "reference",
    ]


@pytest.mark.parametrize("price", ["1e400", "-0.01", "NaN", "Infinity", "0.123456789012345678901", "1000000000"])
def test_an_amount_that_cannot_be_reckoned_with_exactly_is_refused(price: str) -> None:
    assert [field for field, _ in refused({"lines": [{"sku": "A", "quantity": 1, "unit_price": price}]})] == [
        "lines[0].unit_price"
    ]


def test_an_amount_is_read_digit_by_digit_and_kept_as_text() -> None:
    order = msgspec.json.decode(
        b'{"lines": [{"sku": "A", "quantity": 1, "unit_price": 0.1000000000000000055}]}', type=OrderRequest
    )
    assert orders.encode_lines(order.lines) == '[{"sku":"A","quantity":1,"unit_price":"0.1000000000000000055"}]'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["lines", "sku", "quantity", "unit_price", "email", "x"]), inner)
        ),
    )
)
def test_whatever_is_refused_has_a_field_that_says_why(body: Any) -> None:
    try:
        msgspec.convert(body, OrderRequest)
    except msgspec.ValidationError:
        assert field_errors(body, OrderRequest)
    else:
        assert not field_errors(body, OrderRequest)
