"""The doctor beside RQ's own tools, and where it needs more than one go."""

from datetime import timedelta
from tempfile import gettempdir

import pytest
import redis
import sample_tasks
from mall_floor import Floor
from rq import Queue
from rq.cron import CronScheduler
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer
from rq_scheduler import Scheduler

from jobs import keys
from jobs.commands.doctor import examined
from jobs.mall import reconcile
from jobs.queue import orphan_keys, orphans
from jobs.queue.calling import enqueue
from jobs.queue.orphans import Finding, Walk

NOW = 1_763_764_205.25


def look(client: redis.Redis) -> list[Finding]:
    return examined(client, Walk(), wait=float)


def kinds(found: list[Finding]) -> set[str]:
    return {finding.kind.name for finding in found}


def test_a_delayed_job_that_stock_tools_have_cancelled_is_reported_and_not_run(redis_client: redis.Redis) -> None:
    job = Queue("default", connection=redis_client, serializer=JSONSerializer).enqueue_in(
        timedelta(days=1), "sample_tasks.add", 1, 2
    )
    ScheduledJobRegistry("default", connection=redis_client).remove(job)
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="delayed"), now=NOW, due_at=NOW + 10**9)
    Scheduler("default", connection=redis_client).cancel("delayed")
    found = look(redis_client)
    assert {finding.target for finding in found} == {keys.job(job.id), keys.job("delayed")}
    assert kinds(orphans.mend(redis_client, found, by="cli:test")) == {"job-undated"}
    assert (
        redis_client.lpos(keys.queue("default"), job.id) is None and redis_client.lpos(keys.queue("default"), "delayed") is None
    )


def test_more_orders_than_one_pass_heals_are_mended_in_one_go(
    redis_client: redis.Redis, floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PAGE", 2)
    monkeypatch.setattr(reconcile, "HEALED", 2)
    floor.put("A", 50)
    for _ in range(6):
        floor.order(("A", 1))
    redis_client.delete(keys.PICK_BUFFER)
    found = look(redis_client)
    assert len(found) == 6 and kinds(found) == {"order-stands"}
    assert orphans.mend(redis_client, found, by="cli:test") == []


def test_keys_of_rqs_own_schedulers_are_known(redis_client: redis.Redis) -> None:
    cron = CronScheduler(connection=redis_client)
    cron.register_birth()
    cron.heartbeat()
    cron.register(gettempdir, "default", interval=1).enqueue(redis_client)
    RQScheduler(["default"], connection=redis_client).register_birth()
    Scheduler("default", connection=redis_client).register_birth()
    assert [f.target for f in look(redis_client) if f.kind is orphan_keys.UNKNOWN] == []
