"""What rq-scheduler 0.14 does wrong, as scenarios: each is run with it and with ours, and says what happened.

`python tests/scheduler_failures.py stock|ours <scenario>` runs one on the empty database at REDIS_URL and prints what happened as
JSON in its last line. Nothing depends on luck: a process is stopped, or overtaken by another one, just before its n-th command,
for every n, and due times lie in the past.
"""

import itertools
import json
import os
import pickle
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import redis
from rq import Queue, Retry, SimpleWorker
from rq.exceptions import DeserializationError
from rq.serializers import JSONSerializer
from scheduler_engines import HOUR_S, PAST, QUEUE, Engine, before_each_command, stopped

from jobs import keys
from jobs.queue import task
from jobs.queue.periodic import Missed, Overlap, Periodic
from scheduler.fires import Fires
from scheduler.foreign import Foreign
from scheduler.periodic import Registration
from scheduler.promote import Promotion

Happened = dict[str, Any]
ADD = "operator.add"
HALF_PAST = 1_800_001_800.0


@task.task(name="test.ticked", queue=QUEUE, result_ttl_s=600)
def ticked() -> None:
    """What a periodic job of the table runs here."""


# --- passes that do not come to their end -----------------------------------------------------------------------------


def stopped_anywhere(engine: Engine) -> Happened:
    """A pass is stopped before its n-th command, for every n, and another one follows."""
    vanished, runs, fires = 0, set(), set()
    for n in itertools.count(1):
        engine.redis.flushdb()
        client = engine.scheduler()
        client.schedule(PAST, ADD, [1, 2], interval=HOUR_S, id="hourly")
        client.enqueue_at(PAST, ADD, 1, 2, job_id="once")
        was_stopped = stopped(engine.pass_once, n.__eq__)
        engine.unlock()
        engine.pass_once()
        vanished += "hourly" not in client
        queued = engine.ready()
        runs.add(queued.count("once"))
        fires.add(len(queued) - queued.count("once"))
        if not was_stopped:
            return {"periodic jobs vanished": vanished, "runs of one job": sorted(runs), "runs of one fire": sorted(fires)}
    raise AssertionError


def overtaken_anywhere(engine: Engine) -> Happened:
    """Before the n-th command of a pass its lock runs out and another scheduler makes a pass, for every n."""
    runs: set[int] = set()
    for n in itertools.count(1):
        engine.redis.flushdb()
        for number in range(3):
            engine.scheduler().enqueue_at(PAST, ADD, 1, 2, job_id=f"once-{number}")
        reached = 0

        def overtake(number: int, n: int = n) -> None:
            nonlocal reached
            reached = number
            if number == n:
                engine.unlock()
                engine.pass_once()

        with before_each_command(overtake):
            engine.pass_once()
        runs.add(len(engine.ready()))
        if reached < n:
            return {"jobs queued of three": sorted(runs)}
    raise AssertionError


def lock_of_another(engine: Engine) -> Happened:
    """The lock runs out, another process takes it, and then the first one is stopped."""
    engine.scheduler().enqueue_at(PAST, ADD, 1, 2)

    def taken(_number: int) -> bool:
        if engine.redis.get(keys.SCHEDULER_LOCK) == b"another":
            return True
        if engine.redis.exists(keys.SCHEDULER_LOCK):
            engine.redis.set(keys.SCHEDULER_LOCK, "another")
        return False

    if not stopped(lambda: engine.scheduler().run(), taken):
        raise AssertionError("it ended by itself")
    return {"lock": (engine.redis.get(keys.SCHEDULER_LOCK) or b"").decode()}


def client_stopped_anywhere(engine: Engine) -> Happened:
    """A client is stopped while it enqueues, before its n-th command, for every n."""
    orphans = 0
    for n in itertools.count(1):
        engine.redis.flushdb()
        was_stopped = stopped(lambda: engine.scheduler().enqueue_at(PAST, ADD, 1, 2, job_id="once"), n.__eq__)
        orphans += bool(engine.redis.exists(keys.job("once"))) and engine.due_at("once") is None
        if not was_stopped:
            return {"jobs that nothing leads to": orphans}
    raise AssertionError


# --- what a client gets -----------------------------------------------------------------------------------------------


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.folder,)


def pickles(engine: Engine) -> Happened:
    """A job is enqueued by default, and a pass meets one that somebody with access to Redis has planted."""
    default = engine.scheduler(job_class=None)
    job = default.enqueue_at(PAST + timedelta(days=36500), ADD, 1, 2)
    data = zlib.decompress(engine.redis.hget(keys.job(job.id), "data"))
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder, "planted")
        engine.redis.hset(keys.job(job.id), "meta", pickle.dumps(Planted(str(planted))))
        engine.make_due(job.id)
        try:
            default.run(burst=True)
        except AttributeError:  # a meta that is no dict, after it was executed
            engine.unlock()
        return {"pickled": data.startswith(b"\x80"), "executed": planted.exists()}


def options(engine: Engine) -> Happened:
    """Options of RQ's own `enqueue_in` are given."""
    client = engine.scheduler(job_class=None)
    job = client.enqueue_in(timedelta(hours=1), ADD, 1, 2, retry=Retry(max=3, interval=5), failure_ttl=60)
    stored = client.job_class.fetch(job.id, connection=engine.redis)
    return {"arguments": sorted(stored.kwargs), "retries": stored.retries_left, "failure_ttl": stored.failure_ttl}


def cancelled_job(engine: Engine) -> Happened:
    """A delayed and a periodic job are cancelled the way RQ's jobs are."""
    client = engine.scheduler()
    client.enqueue_at(PAST, ADD, 1, 2, job_id="once").cancel()
    client.schedule(PAST, ADD, [1, 2], interval=HOUR_S, id="hourly").cancel()
    engine.pass_once()
    return {"queued": engine.ready()}


def fraction(engine: Engine) -> Happened:
    """A job is due in the midst of a second, and another one is put off to such a time."""
    moment = datetime(2030, 1, 1, 0, 0, 0, 750_000)
    client = engine.scheduler()
    job, other = client.enqueue_at(moment, ADD, 1, 2), client.enqueue_at(PAST, ADD, 1, 2)
    client.change_execution_time(other, moment)
    return {"fractions": [(engine.due_at(found.id) or 0.0) % 1 for found in (job, other)]}


# --- periodic jobs ----------------------------------------------------------------------------------------------------


def time_zones(engine: Engine) -> Happened:
    """Noon in UTC and noon in the local zone, New York: when they are registered, and the next time after a fire."""
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    client, zones = engine.scheduler(), {"utc": UTC, "local": ZoneInfo("America/New_York")}

    def hours() -> list[int]:
        return [datetime.fromtimestamp(engine.due_at(name) or 0.0, zone).hour for name, zone in zones.items()]

    for name in zones:
        client.cron("0 12 * * *", ADD, [1, 2], id=name, use_local_timezone=name == "local")
    registered = hours()
    for name in zones:
        engine.make_due(name)
    engine.pass_once()
    return {"registered": registered, "next": hours()}


def boots(engine: Engine) -> Happened:
    """A program registers its periodic jobs, without ids, at each of three boots."""
    for _ in range(3):
        client = engine.scheduler()
        client.cron("0 12 * * *", ADD, [1, 2])
        client.schedule(PAST, ADD, [1, 2], interval=HOUR_S)
    return {"periodic jobs": engine.redis.zcard(keys.SCHEDULED_JOBS)}


def slow_run(engine: Engine) -> Happened:
    """The next fire comes while a worker has the last run in its hands, and the one after that when it has finished."""
    engine.scheduler().schedule(PAST, ADD, [1, 2], interval=60, id="slow")
    engine.pass_once()
    run = engine.redis.lpop(keys.queue(QUEUE)).decode()
    engine.redis.hset(keys.job(run), "status", "started")
    engine.make_due("slow")
    engine.pass_once()
    meanwhile = engine.ready()
    engine.redis.delete(keys.queue(QUEUE))
    engine.redis.hset(keys.job(run), "status", "finished")
    engine.make_due("slow")
    engine.pass_once()
    return {"queued while it ran": len(meanwhile), "queued after it": len(engine.ready()), "same id": engine.ready() == [run]}


def missed_fires(engine: Engine) -> Happened:
    """No scheduler ran for five fires of an hourly job."""
    runs = {}
    for policy in Missed:
        engine.redis.flushdb()
        if engine.stock:  # it has no word for a policy
            engine.scheduler().schedule(datetime.now(UTC) - timedelta(hours=4.5), ADD, [1, 2], interval=HOUR_S)
            engine.pass_once()
        else:
            table = [Periodic("hourly", ticked, every_s=HOUR_S, overlap=Overlap.ALLOW, missed=policy, missed_max=10)]
            Registration(engine.redis, table).tick(HALF_PAST - 5 * HOUR_S)
            Promotion(engine.redis, Fires(engine.redis, table).due, Foreign(engine.redis).due).tick(HALF_PAST)
        runs[policy.value] = len(engine.ready())
    return runs


def short_result(engine: Engine) -> Happened:
    """An hourly job whose results are kept for a second runs, and its next fire comes."""
    engine.scheduler().schedule(PAST, ADD, [1, 2], interval=HOUR_S, result_ttl=1, id="hourly")
    engine.pass_once()
    queue = Queue(QUEUE, connection=engine.redis, serializer=JSONSerializer)
    SimpleWorker([queue], connection=engine.redis, serializer=JSONSerializer).work(burst=True)
    if engine.redis.ttl(keys.job("hourly")) >= 0:
        engine.redis.delete(keys.job("hourly"))  # as it expires
    engine.make_due("hourly")
    engine.pass_once()
    return {"registered": engine.due_at("hourly") is not None, "queued": len(engine.ready())}


def undecodable(engine: Engine) -> Happened:
    """A job whose call cannot be read, or an id whose key is no hash, is due before a good job: three passes."""
    happened = {}
    for kind in ("no call", "no hash"):
        engine.redis.flushdb()
        client = engine.scheduler()
        client.enqueue_at(PAST, ADD, 1, 2, job_id="unreadable")
        if kind == "no call":
            engine.redis.hset(keys.job("unreadable"), "data", b"\xff\x00")
        else:
            engine.redis.set(keys.job("unreadable"), "?")
        client.enqueue_at(PAST + timedelta(seconds=1), ADD, 1, 2, job_id="good")
        crashes = 0
        for _ in range(3):
            try:
                engine.pass_once()
            except (DeserializationError, redis.exceptions.ResponseError):
                crashes += 1
            engine.unlock()
        happened[kind] = [crashes, "good" in engine.ready()]
    return happened


SCENARIOS: tuple[Callable[[Engine], Happened], ...] = (
    *(stopped_anywhere, overtaken_anywhere, lock_of_another, client_stopped_anywhere),
    *(pickles, options, cancelled_job, fraction),
    *(time_zones, boots, slow_run, missed_fires, short_result, undecodable),
)


def main(engine_name: str, scenario: str) -> None:
    """Runs one scenario on an empty database."""
    engine = Engine(engine_name, os.environ["REDIS_URL"])
    engine.redis.flushdb()
    [chosen] = [function for function in SCENARIOS if function.__name__ == scenario]
    print(f"\n{json.dumps(chosen(engine))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
