"""The worker that the stock `rq worker` command loads: claims by Lua, leases with fences, never exits because of Redis.

One job at a time, on the main thread. A heartbeat thread (watch.py) keeps the lease; every write that ends a job
(ending.py) carries the fence. `rq info`, rq-dashboard, `rq suspend` and RQ's worker commands see an ordinary worker.
"""

import asyncio
import inspect
import logging
import math
import os
import random
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import redis
import structlog
from rq.serializers import JSONSerializer
from rq.utils import now as rq_now
from rq.worker import BaseWorker, WorkerStatus

from jobs import connections, keys, log
from jobs.errors import JobInterrupted, JobStopped, Permanent
from jobs.queue import canvas as _canvas  # noqa: F401  its chunk task is on every worker's allow-list
from jobs.queue import catalogue, claiming, ending, limits, settling
from jobs.queue.budget import Budget
from jobs.queue.coroutines import Interruptible
from jobs.queue.ending import Claim, Written
from jobs.queue.job import JsonJob
from jobs.queue.running import RunningJob, set_running_job
from jobs.queue.script import beside
from jobs.queue.settling import Settled
from jobs.queue.task import REGISTRY, Task
from jobs.queue.watch import Watch
from jobs.settings import current

EXTEND = beside(__file__, "extend")
HEARTBEAT_S = 1.0
LOOK_S = 0.2
"""How long an idle worker blocks on the bells; also how late it sees a job that a stock client pushed."""
NO_LIMIT_S = 1e9
"""What a stock client means by a timeout of -1."""
SIGNALS_TO_FORCE = 3
GIVE_UP_S = 5.0
"""How long past its drain a worker goes on trying to acknowledge while Redis is away."""
logger = log.get("worker")


class Worker(BaseWorker):
    """One process, one job at a time, nothing lost."""

    job_class = JsonJob

    def __init__(self, queues: Any, name: str | None = None, **options: Any) -> None:
        names = [queue if isinstance(queue, str) else queue.name for queue in ([queues] if isinstance(queues, str) else queues)]
        options.update(serializer=JSONSerializer, job_class=JsonJob)
        super().__init__(names, name or f"{'-'.join(names)}-{os.getpid()}-{uuid.uuid4().hex[:6]}", **options)
        self._settings = current()
        self._bells = claiming.bells(names)
        self._stopping = False
        self._signals = 0
        self._stop_at = float("inf")
        self._watch = Watch(self._beat, HEARTBEAT_S)
        self._claim: Claim | None = None
        self._budget = Budget()

    # --- RQ's hooks -----------------------------------------------------------------------

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connections.tuned(connection)

    def _set_ip_address(self, connection: redis.Redis) -> None:
        self.ip_address = "unknown"  # RQ asks CLIENT LIST at every start; nobody reads the answer

    def _install_signal_handlers(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGQUIT, self._on_quit_signal)

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:
        logger.warning("commands cannot be received, trying again", error=str(exc))
        time.sleep(HEARTBEAT_S)  # on RQ's pubsub thread, which must outlive Redis' absence

    def get_current_job_id(self, pipeline: Any = None) -> str | None:
        """The running job, from memory in this worker, from its hash in another's view of it."""
        if self._claim is not None:
            return self._claim.id
        found: str | None = super().get_current_job_id(pipeline)
        return found

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """RQ's `stop-job` and `kill-horse` commands: the running job is stopped."""
        self._watch.interrupt(JobStopped())

    def work(self, burst: bool = False, max_jobs: int | None = None, max_idle_time: int | None = None, **_options: Any) -> bool:
        """Claims and runs jobs until a signal comes, or until the queues are empty in burst mode."""
        self._install_signal_handlers()
        connections.share(self.connection)
        self.log.setLevel(logging.WARNING)
        self.birth_date = self.last_heartbeat = rq_now()
        self._watch.start()
        self._persist(self._enrol, "enrol")
        self._persist(lambda: catalogue.publish(self.connection), "catalogue")
        self._persist(lambda: limits.publish(self.connection, REGISTRY.values()), "limits")
        self._start_commands()
        logger.info("worker started", worker=self.name, queues=self.queue_names(), pid=os.getpid())
        try:
            return self._loop(burst, max_jobs, max_idle_time) > 0
        finally:
            self._watch.stop()
            self._leave()
            logger.info("worker stopped", worker=self.name)

    # --- the loop ---------------------------------------------------------------------------

    def _loop(self, burst: bool, max_jobs: int | None, max_idle_s: int | None) -> int:
        names, lease_s = self.queue_names(), self._settings.lease_s
        done, idle_since = 0, time.monotonic()
        while not self._stopping and (max_jobs is None or done < max_jobs):
            try:
                executions = [uuid.uuid4().hex]
                found = claiming.claim(self.connection, names, self.name, lease_s, now=time.time(), executions=executions)
                if not found.jobs:
                    idle_s = time.monotonic() - idle_since
                    if (burst and found.wait_s is None) or (max_idle_s is not None and idle_s > max_idle_s):
                        break
                    self._idle(found.wait_s)
                    continue
            except redis.exceptions.RedisError as error:
                self._wait_for_redis(error)
                continue
            self._run(found.jobs[0])
            done, idle_since = done + 1, time.monotonic()
        return done

    def _idle(self, wait_s: float | None) -> None:
        if wait_s is not None and wait_s < LOOK_S:
            time.sleep(wait_s)  # not on the bells: an idle server looks at its blocked clients ten times a second only
        else:
            self.connection.blpop(self._bells, timeout=LOOK_S)

    def _run(self, claim: Claim) -> None:
        self._claim = claim
        structlog.contextvars.bind_contextvars(job_id=claim.id, queue=claim.queue, attempt=claim.attempt)
        try:
            self._end(claim, self._settle(claim))
        except Exception:  # of a hook, say: the lease runs out, and a job that ends so again and again is quarantined
            logger.exception("the job's end cannot be written, leaving it to be reclaimed")
        finally:
            self._watch.idle()
            self._claim = None
            structlog.contextvars.clear_contextvars()

    def _settle(self, claim: Claim) -> Settled:
        task_name = claim.text(b"task")
        unstarted = claim.hash.keys().isdisjoint((b"failures", b"crashes", b"acked"))
        if unstarted and claim.seconds(b"expires_at", math.inf) < claim.started_at:
            return settling.expired(claim, claim.started_at)
        try:
            task, result = self._execute(claim)
        except BaseException as error:  # noqa: BLE001  whatever a job raises, its worker survives and the attempt is recorded
            if isinstance(error, JobInterrupted):  # an answer may be on its way to a connection that was left in the middle
                self.connection.connection_pool.disconnect(inuse_connections=False)
            if self._is_away(error):
                self._wait_for_redis(error)  # nobody's attempt: the job goes on when Redis does
                return settling.handed_back(claim, time.time())
            settled = settling.failed(claim, error, time.time(), failing=self._budget.failing(task_name))
        else:
            settled = settling.succeeded(claim, task, result, time.time())
        if task_name and settled.what in ("finished", "retry", "dead"):
            self._budget.count(task_name, settled.what == "finished")
        return settled

    def _is_away(self, error: BaseException) -> bool:
        """Whether the job met an absent Redis and it is the worker's own: that of another one is an error as any."""
        if not connections.is_away(error):
            return False
        try:
            self._enrol(self._claim)
        except redis.exceptions.RedisError as found:
            return connections.is_away(found)
        return False

    def _execute(self, claim: Claim) -> tuple[Task, Any]:
        call = _readable_call(claim)
        task = ending.task_of(claim)
        limit_s = float(claim.hash.get(b"time_limit_s") or claim.hash.get(b"timeout") or task.defaults.time_limit_s)
        set_running_job(RunningJob(claim.id, claim.queue, claim.attempt, self.name, claim.execution))
        try:
            self._watch.begin(
                claim, limit_s if limit_s > 0 else NO_LIMIT_S, float(claim.hash.get(b"soft_time_limit_s") or NO_LIMIT_S)
            )
            result = task.function(*call.args, **call.kwargs)
            if inspect.isawaitable(result):
                result = self._awaited(result)
            self._watch.end()
        finally:
            self._watch.end()
            set_running_job(None)
        return task, result

    def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        running = Interruptible(awaitable)
        self._watch.awaits(running)
        try:
            return asyncio.run(running.run())
        finally:
            self._watch.awaits(None)

    def _end(self, claim: Claim, settled: Settled) -> None:
        written = self._persist(lambda: settled.write(self.connection), settled.what)
        if written is Written.LEASE_LOST:
            logger.warning("lease lost, nothing written", ending=settled.what, **settled.note)
        elif written is not None:
            level = logger.info if settled.what == "finished" else logger.warning
            level(settled.what, duration_s=round(time.time() - claim.started_at, 3), **settled.note)

    def _persist(self, write: Callable[[], Any], what: str) -> Any:
        """Writes until Redis has it. None when the worker must go before Redis is back: the lease then runs out."""
        while True:
            try:
                return write()
            except redis.exceptions.RedisError as error:
                if not connections.is_away(error):
                    logger.exception("Redis refused a write", ending=what)
                    return None
                if time.monotonic() > self._stop_at:
                    logger.warning("Redis is away, leaving the job to be reclaimed", ending=what)
                    return None
                self._wait_for_redis(error)

    def _wait_for_redis(self, error: BaseException) -> None:
        logger.warning("waiting for Redis", error=str(error))
        time.sleep(HEARTBEAT_S * (0.5 + random.random() / 2))

    # --- registration and heartbeat, so that RQ's tools see the worker ----------------------

    def _enrol(self, claim: Claim | None = None) -> None:
        self.last_heartbeat = rq_now()
        state = WorkerStatus.BUSY if claim else WorkerStatus.IDLE
        fields = {**self.serialize(), "state": state.value, "current_job": claim.id if claim else ""}
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.hset(keys.worker(self.name), mapping={key: value for key, value in fields.items() if value is not None})
            pipeline.expire(keys.worker(self.name), int(self._settings.lease_s * 3) + 1)
            pipeline.sadd(keys.WORKERS, keys.worker(self.name))
            for name in self.queue_names():
                pipeline.sadd(keys.workers(name), keys.worker(self.name))
            if claim is None:
                pipeline.hdel(keys.worker(self.name), "current_job")
            pipeline.execute()

    def _beat(self, claim: Claim | None) -> None:
        if claim is not None:
            lost = EXTEND(self.connection, [keys.wip(claim.queue)], [time.time() + self._settings.lease_s, claim.member])
            if lost and self._claim is claim:
                logger.warning("lease lost while the job runs", job_id=claim.id)
        self._enrol(claim)
        self._budget.exchange(self.connection, time.time())

    def _start_commands(self) -> None:
        self.pubsub = self.connection.pubsub()
        self.pubsub.subscribe(**{self.pubsub_channel_name: self.handle_payload})
        self.pubsub_thread = self.pubsub.run_in_thread(
            sleep_time=HEARTBEAT_S, daemon=True, exception_handler=self._pubsub_exception_handler
        )

    def _leave(self) -> None:
        try:
            self.register_death()
        except redis.exceptions.RedisError as error:
            logger.warning("not signed off, the entry will expire", error=str(error))

    # --- signals ------------------------------------------------------------------------------

    def _on_stop_signal(self, _number: int, _frame: Any) -> None:
        self._signals += 1
        if self._signals >= SIGNALS_TO_FORCE:
            self._drain(0.0)
        elif self._signals == 1:
            self._drain(self._settings.drain_s)

    def _on_quit_signal(self, _number: int, _frame: Any) -> None:
        self._drain(0.0)

    def _drain(self, within_s: float) -> None:
        self._stopping = True
        self._stop_at = time.monotonic() + within_s + GIVE_UP_S
        self._watch.drain(within_s)


def _readable_call(claim: Claim) -> Any:
    try:
        return claim.call()
    except ValueError as error:
        raise Permanent(str(error)) from None
