"""A full memory: new work is refused whole; what ends work goes through, with everything that belongs to it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from hands import Hands
from mall_floor import Floor
from snapshots import changes, snapshot

from jobs import connections, keys
from jobs.errors import Permanent
from jobs.mall import steps
from jobs.queue import dead_letters
from jobs.queue.ending import Written
from jobs.queue.script import beside

NOW = 1_763_764_205.0
GUARD = keys.failed("packing")


def call(client: redis.Redis, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
    return beside(steps.__file__, name)(client, names, args)


def step_begin(client: redis.Redis, order_id: str, step: str, job_id: str = "j") -> Any:
    return call(client, "step_begin", [keys.order(order_id)], [order_id, step, job_id, 1, repr(NOW), "w"])


@pytest.fixture
def packing(hands: Hands, floor: Floor) -> str:
    """An order that waits to be packed."""
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    hands.work_off("picking")
    return order_id


@pytest.fixture
def full(redis_client: redis.Redis) -> Iterator[Callable[[], object]]:
    """Fills the memory from its call to the test's end."""
    yield lambda: redis_client.config_set("maxmemory", 1)
    redis_client.config_set("maxmemory", 0)


@pytest.mark.parametrize("error", [ValueError("no"), Permanent("no")], ids=["retry", "death"])
def test_a_full_memory_refuses_an_ending_whole_or_not_at_all(
    redis_client: redis.Redis, hands: Hands, floor: Floor, packing: str, error: Exception, full: Callable[[], object]
) -> None:
    claim = hands.must_claim("packing")
    step_begin(redis_client, packing, "pack", claim.id)
    before = snapshot(redis_client)
    full()
    try:
        assert hands.fail(claim, error) is Written.NOW
    except redis.exceptions.OutOfMemoryError:
        assert changes(before, snapshot(redis_client)) == {}
        return
    view = floor.view(packing)
    assert (view.status, view.attempts[-1].error) == ("packing" if isinstance(error, ValueError) else "dead", "no")
    floor.check_books()


@pytest.mark.parametrize(("what", "status", "held"), [(dead_letters.redrive, "packing", 2), (dead_letters.discard, "dead", 0)])
def test_a_full_memory_leaves_no_dead_letter_half_handled(
    redis_client: redis.Redis,
    hands: Hands,
    floor: Floor,
    packing: str,
    full: Callable[[], object],
    what: Callable[[redis.Redis, str], None],
    status: str,
    held: int,
) -> None:
    hands.fail(hands.must_claim("packing"), Permanent("no"))
    before = snapshot(redis_client)
    full()
    try:
        what(redis_client, f"{packing}-pack")
    except redis.exceptions.OutOfMemoryError:
        assert changes(before, snapshot(redis_client)) == {}
        return
    assert (floor.status(packing), floor.stock("A")) == (status, (5, held))
    floor.check_books()


def test_a_full_memory_refuses_new_work_whole(redis_client: redis.Redis, floor: Floor, full: Callable[[], object]) -> None:
    floor.put("A", 5)
    before = snapshot(redis_client)
    full()
    for refused in (lambda: floor.order(("A", 1)), lambda: floor.put("A", 6)):
        with pytest.raises(redis.exceptions.ResponseError) as caught:
            refused()
        assert connections.is_away(caught.value), "it is a reason to try again later"
    assert changes(before, snapshot(redis_client)) == {}


def test_what_a_full_redis_6_2_says_of_a_script_is_a_reason_to_try_again_later() -> None:
    said = "Error running script (call to f_917): @user_script:2: @user_script: 2: -OOM command not allowed"
    assert connections.is_away(redis.exceptions.ResponseError(said))
    assert not connections.is_away(
        redis.exceptions.ResponseError("Error running script (call to f_917): @user_script:2: no OOM here")
    )
