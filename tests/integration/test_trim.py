"""Bounds of the dead letters: the oldest beyond them are discarded with what hangs on them, logged, counted and audited."""

import json
import time

import pytest
import redis
from hands import Hands
from letters import bury_many, check_index
from mall_floor import Floor
from processes import Processes, wait_for

from jobs import keys
from jobs.errors import Permanent
from jobs.queue import audit, dead_letters
from scheduler.trim import BATCH, MAX_BATCHES, Trim

NOW = 1_763_764_205.0


def left(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.zrange(keys.DEAD, 0, -1)]


def ids_of(number: int) -> list[str]:
    return [f"j{place:05}" for place in range(number)]


@pytest.mark.parametrize(
    ("most", "max_age_s", "kept"),
    [(400, 0.0, 350), (100, 0.0, 100), (1, 0.0, 1), (400, 0.05, 50), (100, 0.05, 50), (20, 0.05, 20), (400, 1e-6, 0)],
)
def test_the_oldest_beyond_the_number_or_the_age_are_discarded(
    redis_client: redis.Redis, most: int, max_age_s: float, kept: int
) -> None:
    ids = ids_of(350)
    bury_many(redis_client, ids, NOW, n_groups=3)
    duty = Trim(redis_client, most, max_age_s)
    assert duty.tick(NOW + 0.3495) == {"trimmed": 350 - kept}
    assert left(redis_client) == ids[350 - kept :]
    assert redis_client.zcard(keys.failed("default")) == kept
    assert len(list(redis_client.scan_iter("rq:job:*", count=1_000))) == kept
    check_index(redis_client)
    trail = [(entry.what, entry.who, entry.target) for entry in audit.page(redis_client, cursor=None, limit=9)[0]]
    assert trail == ([("trim", "scheduler", f"{350 - kept} dead letters")] if kept < 350 else [])
    assert duty.tick(NOW + 0.3495) == {"trimmed": 0}


def test_a_flood_is_trimmed_in_bounded_ticks(redis_client: redis.Redis) -> None:
    at_once = BATCH * MAX_BATCHES
    bury_many(redis_client, ids_of(at_once + 50), NOW)
    duty = Trim(redis_client, 1, 0.0)
    assert [duty.tick(NOW)["trimmed"] for _ in range(3)] == [at_once, 49, 0]


def test_a_trimmed_letter_of_an_order_gives_back_its_stock(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    floor.put("A", 9)
    order_id = floor.order(("A", 2))
    hands.work_off("picking")
    hands.fail(hands.must_claim("packing"), Permanent("torn box"))
    assert floor.stock("A") == (9, 2)
    assert Trim(redis_client, 10, 60.0).tick(time.time() + 61) == {"trimmed": 1}
    assert (floor.status(order_id), floor.stock("A")) == ("dead", (9, 0))
    floor.check_books()


def test_an_id_without_a_job_does_not_keep_the_others_from_being_trimmed(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ids_of(150), NOW)
    redis_client.delete(*(keys.job(job_id) for job_id in ids_of(120)))
    duty = Trim(redis_client, 10, 0.0)
    assert duty.tick(NOW) == {"trimmed": 20}
    assert left(redis_client) == ids_of(150)[140:]


def test_the_scheduler_keeps_to_the_settings_and_says_what_it_discards(redis_client: redis.Redis, processes: Processes) -> None:
    bury_many(redis_client, ids_of(5), time.time())
    scheduler = processes.start("python", "-m", "scheduler", TURNSTILE_DEAD_LETTERS_MAX="3", TURNSTILE_LOG_FORMAT="json")
    wait_for(lambda: redis_client.hget(keys.SCHEDULER, "trimmed") == b"2", 30, "it trims and counts")
    said = [json.loads(line) for line in scheduler.output.splitlines() if "dead letter trimmed" in line]
    [group] = dead_letters.groups(redis_client)
    assert [(line["job_id"], line["task"], line["group"], line["error"]) for line in said] == [
        (job_id, "sample.fail", group.group, "no a") for job_id in ids_of(2)
    ]
    assert left(redis_client) == ids_of(5)[2:]
