"""The doctor: each kind of damage is planted, named, mended by --fix, and then gone; without --fix nothing is written."""

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
import redis
import sample_tasks
from hands import Hands
from mall_floor import Floor
from sample_batches import gather
from snapshots import changes, snapshot

from jobs import key_patterns, keys
from jobs.commands.doctor import examined
from jobs.errors import Permanent
from jobs.mall import orphans as mall_orphans
from jobs.queue import audit, orphan_entries, orphan_jobs, orphan_keys, orphan_letters, orphans, redrives
from jobs.queue.calling import enqueue
from jobs.queue.canvas import chord
from jobs.queue.canvas_handle import launch
from jobs.queue.canvas_parts import signature
from jobs.queue.orphans import Finding, Kind, Walk

NOW = 1_763_764_205.25
"""Long ago: what was queued then is not just on its way."""
Plant = Callable[[redis.Redis], object]


def look(client: redis.Redis) -> list[Finding]:
    return examined(client, Walk(), wait=float)


def kinds(found: list[Finding]) -> set[str]:
    return {finding.kind.name for finding in found}


@pytest.fixture
def busy(redis_client: redis.Redis, hands: Hands, floor: Floor) -> redis.Redis:
    """A Redis with something of everything, as it is in the middle of work."""
    floor.put("A", 50)
    for _ in range(3):
        floor.order(("A", 2))
    hands.work_off("picking")
    hands.must_claim("packing")
    floor.order(("A", 1), countdown_s=600)
    floor.cancel(floor.order(("A", 1), countdown_s=600))
    for job_id in ("runs", "runs-too", "dies", "done", "delayed"):
        due_at = NOW + 10**9 if job_id == "delayed" else None
        enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id=job_id), now=NOW, due_at=due_at)
    for _ in range(2):
        hands.must_claim("default")
    hands.fail(hands.must_claim("default"), Permanent("no"))
    hands.finish(hands.must_claim("default"), 3)
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="ready"), now=NOW)
    sample_tasks.single.delay()
    launch(redis_client, chord([signature(sample_tasks.collect, (1,))] * 3, signature(sample_tasks.collect, ())), canvas_id="c1")
    gather.add_many(redis_client, [{"give": 1}, {"give": 2}], ["a", "b"])
    return redis_client


def one_order(client: redis.Redis, status: str) -> str:
    """The id of an order in the status."""
    order_id: bytes = client.zrange(keys.STATUS_PREFIX + status, 0, 0)[0]
    return order_id.decode()


def forget_order(client: redis.Redis, order_id: str) -> None:
    client.delete(keys.order(order_id))


def lose_queue(client: redis.Redis) -> None:
    client.delete(keys.queue("packing"))
    client.delete(keys.wip("packing"))


def ghost(client: redis.Redis) -> None:
    client.hset(keys.job("half"), "last_heartbeat", "2026-11-21T03:04:05.123456Z")


def dying(client: redis.Redis, **fields: str) -> None:
    client.hset(keys.job("stock"), mapping={"data": "[]", "status": "failed", "origin": "default", **fields})


def left_over_definition(client: redis.Redis) -> None:
    made = {"data": "[]", "status": "scheduled", "origin": "default", "created_at": "1970-01-01T00:00:00.000000Z"}
    client.hset(keys.job("cron-old"), mapping=made)


def unadopted(client: redis.Redis) -> None:
    dying(client)
    client.zadd(keys.failed("default"), {"stock": "+inf"})


PLANTS: list[tuple[str, Plant]] = [
    ("job-lost", lambda c: c.lrem(keys.queue("default"), 0, "ready")),
    ("job-lost", lambda c: c.delete(keys.wip("default"))),
    ("job-lost", lambda c: [c.hset(keys.job("c1-3"), "status", "scheduled"), c.lrem(keys.queue("default"), 0, "c1-3")]),
    ("job-unlisted", dying),
    ("job-unlisted", lambda c: dying(c, status="deferred")),
    ("job-for-ever", lambda c: c.persist(keys.job("done"))),
    ("job-for-ever", lambda c: dying(c, status="canceled")),
    ("job-fragment", ghost),
    ("definition-left", left_over_definition),
    ("entry-of-nothing", lambda c: c.rpush(keys.queue("default"), "gone")),
    ("entry-of-nothing", lambda c: c.rpush(keys.intermediate("default"), "gone")),
    ("entry-of-nothing", lambda c: c.zadd(keys.wip("default"), {"gone:1": NOW})),
    ("entry-of-nothing", lambda c: c.zadd(keys.scheduled("default"), {"gone": NOW})),
    ("entry-of-nothing", lambda c: c.zadd(keys.SCHEDULED_JOBS, {"gone": NOW + 10**9})),
    ("entry-of-nothing", lambda c: c.zadd(keys.failed("default"), {"gone": "+inf"})),
    ("entry-of-nothing", lambda c: c.zadd(keys.finished("default"), {"gone": "+inf"})),
    ("entry-of-nothing", lambda c: c.zadd(keys.canceled("default"), {"gone": time.time() + 5_000})),
    ("entry-of-nothing", lambda c: c.zadd(keys.deferred("default"), {"gone": NOW})),
    ("entry-of-nothing", lambda c: c.sadd(keys.WORKERS, keys.worker("gone"))),
    ("entry-of-nothing", lambda c: c.sadd(keys.workers("default"), keys.worker("gone"))),
    ("entry-of-nothing", lambda c: c.zadd(keys.held("default"), {"sample.rated": 1})),
    ("entry-of-nothing", lambda c: c.zadd(keys.REDRIVES, {"gone": "+inf"})),
    ("entry-of-nothing", lambda c: c.zadd(keys.CANVASES_OPEN, {"gone": NOW})),
    ("entry-of-nothing", lambda c: c.sadd(keys.PERIODIC, "gone")),
    ("slot-of-nothing", lambda c: c.zadd(keys.running("old.task"), {"default|gone:1": NOW})),
    ("key-of-nothing", lambda c: c.xadd(keys.results("gone"), {"type": 2})),
    ("key-of-nothing", lambda c: c.hset(keys.periodic("gone"), "cron", "* * * * *")),
    ("key-of-nothing", lambda c: c.rpush(keys.periodic_runs("gone"), "{}")),
    ("key-of-nothing", lambda c: c.zadd(keys.redrive_letters("gone"), {"dies": NOW})),
    ("key-of-nothing", lambda c: c.hset(keys.canvas_nodes("gone"), "0", "")),
    ("key-of-nothing", lambda c: c.set(keys.canvas_states("gone"), "s")),
    ("key-of-nothing", lambda c: c.hset(keys.canvas_results("gone"), "0", "1")),
    ("key-of-nothing", lambda c: c.rpush(keys.canvas_todo("gone"), "1:2")),
    ("key-of-nothing", lambda c: c.zadd(keys.canvas_failed("gone"), {"1": NOW})),
    ("key-of-nothing", lambda c: c.rpush(keys.order_attempts("gone"), "{}")),
    ("not-in-index", lambda c: c.srem(keys.QUEUES, keys.queue("default"))),
    ("not-in-index", lambda c: c.lmove(keys.queue("default"), keys.held_jobs("default", "sample.rated"))),
    ("not-in-index", lambda c: c.zrem(keys.CANVASES_OPEN, "c1")),
    ("not-in-index", lambda c: redrives.request(c, "redrive", by="t") and c.delete(keys.REDRIVES)),
    (
        "lock-left",
        lambda c: [c.hset(keys.job(c.get(key).decode()), "status", "finished") for key in c.scan_iter(keys.unique("*"))],
    ),
    ("batch-ids", lambda c: c.srem(keys.batch_ids("sample.gather"), "a")),
    ("batch-ids", lambda c: c.sadd(keys.batch_ids("sample.gather"), "z")),
    ("batch-ids", lambda c: c.sadd(keys.batch_ids("other"), "z")),
    ("batch-without-job", lambda c: c.delete(keys.batch_due("sample.gather"))),
    ("batch-without-job", lambda c: c.set(keys.batch_due("sample.gather"), "gone")),
    ("batch-without-job", lambda c: c.set(keys.batch_due("other"), "gone")),
    ("batch-without-job", lambda c: c.set(keys.ENTRIES_JOB, "gone")),
    ("batch-without-job", lambda c: c.set(keys.PICK_JOB, "gone")),
    ("canvas-member-lost", lambda c: c.delete(keys.job("c1-3"))),
    ("letter-untrue", lambda c: c.zrem(keys.failed("default"), "dies")),
    ("letter-untrue", lambda c: c.zadd(keys.DEAD, {"gone": NOW})),
    ("letter-untrue", lambda c: [c.delete(key) for key in c.scan_iter(keys.dead_group("*"))]),
    ("letter-unlisted", unadopted),
    ("letter-group", lambda c: c.delete(keys.DEAD_SIZES)),
    ("letter-group", lambda c: c.delete(keys.DEAD_GROUPS)),
    ("letter-group", lambda c: c.zadd(keys.DEAD_SIZES, {"gone": 3})),
    ("letter-group", lambda c: [c.zadd(key, {"gone": NOW}) for key in c.scan_iter(keys.dead_group("*"))]),
    ("order-gone", lambda c: forget_order(c, one_order(c, "packing"))),
    ("order-gone", lambda c: c.zadd(keys.ORDERS_OPEN, {"gone": NOW})),
    ("order-fragment", lambda c: c.hset(keys.order("gone"), "version", 1)),
    ("order-unlisted", lambda c: c.zrem(keys.ORDERS, one_order(c, "packing"))),
    ("order-index", lambda c: c.zrem(keys.ORDERS_OPEN, one_order(c, "packing"))),
    ("order-index", lambda c: c.zadd(keys.ORDERS_OPEN, {one_order(c, "cancelled"): NOW})),
    ("order-index", lambda c: c.zadd(keys.STATUS_PREFIX + "dead", {one_order(c, "packing"): NOW})),
    ("order-index", lambda c: c.delete(keys.STATUS_PREFIX + "packing")),
    ("orders-sum", lambda c: c.delete(keys.STATUS_PREFIX + "packing")),
    ("pick-buffer", lambda c: c.rpush(keys.PICK_BUFFER, one_order(c, "packing"))),
    ("order-stands", lose_queue),
    ("order-stands", lambda c: c.zrem(keys.SCHEDULED_JOBS, one_order(c, "scheduled") + "-start")),
    ("stock-reserved", lambda c: c.hincrby(keys.STOCK_PREFIX + "A", "reserved", 7)),
    ("stock-reserved", lambda c: c.hset(keys.STOCK_PREFIX + "B", mapping={"on_hand": 5, "reserved": 5})),
    ("entries-sum", lambda c: c.hset(keys.ENTRIES, mapping={"accepted": 5, "counted": 3})),
    ("key-for-ever", lambda c: c.rpush(keys.unreadable("gone"), "no string")),
    ("key-for-ever", lambda c: c.set(keys.SEEN_SEQS_PREFIX + "1:0|s", "")),
]


def test_a_system_in_the_middle_of_work_has_nothing_wrong(busy: redis.Redis) -> None:
    assert look(busy) == []


@pytest.mark.parametrize(("kind", "plant"), PLANTS, ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(PLANTS)])
def test_each_kind_of_damage_is_named_mended_and_then_gone(busy: redis.Redis, kind: str, plant: Plant) -> None:
    plant(busy)
    before = snapshot(busy)
    found = look(busy)
    assert kind in kinds(found)
    assert changes(before, snapshot(busy)) == {}, "looking writes nothing"
    assert orphans.mend(busy, found, by="cli:test") == []
    assert look(busy) == []
    again = snapshot(busy)
    for finding in found:
        assert not orphans.settle(busy, finding, act=True), "mending again does nothing more"
    assert changes(again, snapshot(busy)) == {}


def test_every_kind_of_finding_is_planted_in_a_test() -> None:
    by_hand = {"key-unknown", "key-type", "job-undated"}
    modules = (orphan_entries, orphan_jobs, orphan_keys, orphan_letters, mall_orphans)
    known = {value.name for module in modules for value in vars(module).values() if isinstance(value, Kind)}
    assert known == {kind for kind, _plant in PLANTS} | by_hand


def test_a_key_that_nobody_knows_or_of_another_type_is_reported_and_left_alone(busy: redis.Redis) -> None:
    busy.set("turnstile:unheard-of", "1")
    busy.set(keys.queue("odd"), "no list")
    busy.set("somebody-else", "1")
    walk = Walk()
    found = examined(busy, walk, wait=float)
    assert {(finding.kind.name, finding.keys[0]) for finding in found} == {
        ("key-unknown", "turnstile:unheard-of"),
        ("key-type", keys.queue("odd")),
    }
    assert orphans.mend(busy, found, by="cli:test") == found
    assert busy.get("turnstile:unheard-of") == b"1"
    assert walk.foreign == 1


def test_what_has_another_type_than_it_should_does_not_stop_the_look(busy: redis.Redis) -> None:
    wrong = [keys.queue("default"), keys.wip("default"), keys.held("default"), keys.DEAD, keys.DEAD_SIZES, keys.job("dies")]
    for key in wrong:
        busy.delete(key)
        busy.set(key, "odd")
    busy.zadd(keys.CANVASES_OPEN, {"gone": NOW})
    found = look(busy)
    assert {finding.keys[0] for finding in found if finding.kind.name == "key-type"} == set(wrong)
    assert "entry-of-nothing" in kinds(found)
    left = orphans.mend(busy, found, by="cli:test")
    assert "entry-of-nothing" not in kinds(left)
    assert [busy.get(key) for key in wrong] == [b"odd"] * len(wrong)


def test_an_order_that_one_index_has_lost_still_holds_its_stock(busy: redis.Redis) -> None:
    busy.delete(keys.ORDERS_OPEN)
    assert kinds(look(busy)) == {"order-index"}


def test_what_is_right_again_at_a_later_look_is_not_reported(busy: redis.Redis) -> None:
    for times in (1, 2):
        waits = itertools.count(1)

        def put_back(_s: float, at: int = times, number: Iterator[int] = waits) -> None:
            if next(number) == at:
                busy.rpush(keys.queue("default"), "ready")

        busy.lrem(keys.queue("default"), 0, "ready")
        assert examined(busy, Walk(), wait=put_back) == []


def test_a_lost_job_runs_again_and_no_order_and_no_job_is_deleted(busy: redis.Redis, hands: Hands, floor: Floor) -> None:
    jobs = set(busy.scan_iter("rq:job:*"))
    for key in (keys.queue("default"), keys.queue("packing"), keys.wip("default"), keys.wip("packing"), keys.SCHEDULED_JOBS):
        busy.delete(key)
    assert kinds(orphans.mend(busy, look(busy), by="cli:test")) == {"job-undated"}
    assert set(busy.scan_iter("rq:job:*")) >= jobs
    scheduled = one_order(busy, "scheduled")
    due_at = float(busy.hget(keys.order(scheduled), "due_at"))
    assert busy.zscore(keys.SCHEDULED_JOBS, f"{scheduled}-start") == due_at, "the order's own time, not at once"
    hands.work_off("packing")
    assert floor.counts()["delivering"] == 3


def test_what_was_mended_is_in_the_audit_trail(busy: redis.Redis) -> None:
    busy.lrem(keys.queue("default"), 0, "ready")
    orphans.mend(busy, look(busy), by="cli:test")
    entry = audit.page(busy, cursor=None, limit=1)[0][0]
    assert (entry.what, entry.who, entry.target) == ("doctor job-lost", "cli:test", "1: rq:job:ready")


def test_a_hot_sku_is_left_for_another_time(busy: redis.Redis) -> None:
    class Touching(redis.Redis):
        """Somebody reserves and gives back while the sum is taken."""

        def hget(self, name: str, key: str) -> bytes | None:
            value: bytes | None = super().hget(name, key)
            if name.startswith(keys.STOCK_PREFIX):
                self.hincrby(name, "reserved", 0)
            return value

    busy.hincrby(keys.STOCK_PREFIX + "A", "reserved", 7)
    [found] = look(busy)
    hot = Touching(connection_pool=busy.connection_pool)
    assert not orphans.settle(hot, found, act=True)
    assert orphans.settle(busy, found, act=False), "nothing was written"


def test_every_key_that_must_expire_is_listed_and_its_documentation_says_so() -> None:
    entries = {entry.name: entry for entry in key_patterns.documented()}
    assert set(key_patterns.EXPIRING) <= set(entries)
    for name in key_patterns.EXPIRING:
        assert "xpire" in entries[name].doc, name
