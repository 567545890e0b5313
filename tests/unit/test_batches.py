"""Batches: what can be declared and added, and what a function may answer."""

from typing import Any

import pytest
import redis
import sample_batches

from jobs.errors import InvalidField
from jobs.queue import task as task_module
from jobs.queue.batches import BUFFERS, Batch, Item, batch
from jobs.queue.task import by_name, by_path

NOBODY = redis.Redis(port=9)
"""Nothing is sent there: what is refused is refused before."""


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Batch:
    """A batch whose items say what the function answers."""
    monkeypatch.setattr(task_module, "REGISTRY", {})
    monkeypatch.setattr(task_module, "_BY_PATH", {})
    monkeypatch.setattr("jobs.queue.batches.BUFFERS", {})

    def answer(items: list[Item]) -> Any:
        return items[0].value

    return batch(name="sample.answer")(answer)


def test_the_batch_and_the_single_item_are_tasks_on_the_allow_list_where_a_stock_worker_finds_them() -> None:
    assert by_name("sample.gather") is by_path("sample_batches.gather.run") is sample_batches.gather.run
    assert by_name("sample.gather.alone") is by_path("sample_batches.gather.alone") is sample_batches.gather.alone
    assert list(sample_batches.gather.alone.signature.parameters) == ["item_id", "item"]
    assert BUFFERS["sample.gather"].due == "turnstile:batch:sample.gather:job"


@pytest.mark.parametrize("options", [{"max_items": 0}, {"max_items": 1_001}, {"linger_s": -1.0}, {"linger_s": float("nan")}])
def test_a_batch_without_bounds_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"name='sample\.other'.* 1 <= max_items"):
        batch(name="sample.other", **options)(lambda items: None)


@pytest.mark.parametrize("item", [object(), {1, 2}, float("nan")])
def test_an_item_that_is_not_json_is_refused_by_its_number(item: Any) -> None:
    with pytest.raises(InvalidField, match=r"items\[1\]: .*must be JSON"):
        sample_batches.gather.add_many(NOBODY, [1, item])


@pytest.mark.parametrize("item_id", ["", "a b", "a:b", "x" * 65])
def test_an_id_that_no_job_can_have_is_refused(item_id: str) -> None:
    with pytest.raises(InvalidField, match="item_id"):
        sample_batches.gather.add(NOBODY, 1, item_id)


def test_each_item_needs_an_id_when_ids_are_given() -> None:
    with pytest.raises(ValueError, match="zip"):
        sample_batches.gather.add_many(NOBODY, [1, 2], ["a"])


def test_no_two_batches_share_a_job_id() -> None:
    assert sample_batches.gather.job_id("a-b") == "sample-gather--a-b"


def test_no_answer_is_success(answering: Batch) -> None:
    assert answering.alone("a", None) is None
    assert answering.alone("a", {}) is None


def test_an_answer_goes_by_order_or_by_id(answering: Batch) -> None:
    assert answering.alone("a", [7]) == 7
    assert answering.alone("a", {"a": 7}) == 7


@pytest.mark.parametrize("answer", [[], [1, 2], "x", 3, {"b": 1}])
def test_an_answer_that_does_not_fit_the_items_is_an_error(answering: Batch, answer: Any) -> None:
    with pytest.raises(ValueError, match=r"sample\.answer (must answer|answered for items that it was not given: 'b')"):
        answering.alone("a", answer)
