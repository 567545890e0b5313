"""After a busy hour every key in Redis is one that jobs/keys.py lists, and of the type that it says."""

import json
import time
from functools import partial

import redis
import sample_tasks
from asking import Ask
from carriers import Carrier
from hands import Hands
from mall_floor import Floor
from processes import Processes, wait_for

from jobs import key_patterns, keys
from jobs.errors import Permanent
from jobs.mall import entries, reconcile, reports
from jobs.queue import dead_letters, overview, redrives
from jobs.queue.calling import enqueue
from jobs.queue.script import QUEUE_DIR, script
from jobs.settings import Settings

STEPS = ("picking", "packing", "delivery")


def wrong_keys(client: redis.Redis) -> list[str]:
    """Every key that is not listed, or not of the type that the list gives it."""
    found = []
    for key in sorted(client.scan_iter(count=1_000)):
        listed, kind = key_patterns.of(key.decode()), client.type(key).decode()
        if not listed:
            found.append(f"{key.decode()} ({kind}) is not in jobs/keys.py")
        elif kind not in (listed[0].type, "none"):  # none: a worker has just taken the bell
            found.append(f"{key.decode()} is a {kind}, jobs/keys.py says {listed[0].type}")
    return found


def test_every_key_of_a_busy_mall_is_documented_with_its_type(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, ask: Ask, settings: Settings
) -> None:
    floor.put("A", 5)
    floor.put("none", 0)
    now = time.time()
    for event in ({"event_id": "e"}, {"sensor": "s", "seq": 70_000}):
        parsed = entries.parse(json.dumps({"gate": "n", **event}).encode(), settings=settings, zone=settings.zone, now=now)
        ask(partial(entries.ingest, entries=[parsed], settings=settings, now=now))
    assert wrong_keys(redis_client) == []
    delivered = floor.order(("A", 2))
    floor.order(("none", 1))
    floor.cancel(floor.order(("A", 1), countdown_s=60))
    floor.order(("A", 1), countdown_s=60)
    hands.work_off("entries", *STEPS)
    assert floor.status(delivered) == "delivered"
    near_carrier.tell(mode="fail")
    floor.order(("A", 1))
    hands.work_off(*STEPS)
    dying = floor.order(("A", 1))
    hands.work_off("picking")
    hands.fail(hands.must_claim("packing"), Permanent("no"))
    dead_letters.redrive(redis_client, f"{dying}-pack", by="test")
    hands.fail(hands.must_claim("packing"), Permanent("no"))
    redrives.request(redis_client, "redrive", by="test", rate_per_s=1)
    floor.order(("A", 1))
    hands.work("picking")
    hands.must_claim("packing")
    hands.reclaim("packing")
    hands.must_claim("packing")
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="cancelled"), now=now)
    cancel = script(QUEUE_DIR / "cancel.lua")
    cancel(redis_client, [keys.job("cancelled"), keys.SCHEDULED_JOBS], ["cancelled", repr(now), 60])
    overview.pause(redis_client, "default")
    reports.roll_up()
    reports.daily_report()
    reports.cleanup()
    redis_client.delete(keys.queue("packing"))
    reconcile.reconcile(redis_client, now=now + 100, after_s=1.0)
    floor.order(("A", 1))
    assert wrong_keys(redis_client) == []
    present = {key_patterns.of(key.decode())[0].name for key in redis_client.scan_iter(count=1_000)}
    assert len(present) > 30, f"the mall was not busy enough: {sorted(present)}"


def test_every_key_of_a_running_worker_is_documented_with_its_type(redis_client: redis.Redis, processes: Processes) -> None:
    worker = processes.worker("default", "other")
    wait_for(lambda: redis_client.exists(keys.WORKERS), 20, "the worker enrols")
    enqueue(redis_client, sample_tasks.add.spec(1, 2), now=time.time())
    wait_for(lambda: redis_client.zcard(keys.finished("default")), 20, "the job is done")
    assert wrong_keys(redis_client) == []
    assert worker.runs
