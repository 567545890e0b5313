"""The handle of a job: results, refusals, and waiting that wakes at once and costs little."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio
import sample_tasks
from asking import Ask
from command_counts import commands_of
from hands import Hands
from processes import wait_for
from servers import Server

from jobs import connections, keys
from jobs.errors import Conflict, JobFailed, JobGone, NotFinished, Permanent
from jobs.queue import handle, watching
from jobs.queue.calling import enqueue
from jobs.queue.handle import JobHandle
from jobs.queue.watching import TICK_S

SOON_S = 0.4
"""How late a waiter may wake on a busy machine; the promise is about 0.3."""


def sent(client: redis.Redis, job_id: str = "j") -> JobHandle:
    """A job on its queue."""
    enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id), now=time.time())
    return JobHandle(job_id, client)


class Waiter:
    """A thread that waits for a job; `outcome` is what came of it, `woke_at` when."""

    def __init__(self, waiting_for: JobHandle, timeout_s: float = 20.0) -> None:
        self.outcome: object = None
        self.woke_at = 0.0
        self._handle = waiting_for
        self._timeout_s = timeout_s
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self.outcome = self._handle.wait(self._timeout_s)
        except Exception as error:  # noqa: BLE001  the thread's edge: the test looks at it
            self.outcome = error
        self.woke_at = time.monotonic()

    def ended(self) -> float:
        """When the wait was over."""
        self._thread.join(30)
        assert not self._thread.is_alive(), "still waiting"
        return self.woke_at


@pytest.fixture
def client(redis_client: redis.Redis, redis_url: str) -> Iterator[redis.Redis]:
    """The waiters' own client: its pool is that of a program."""
    own = connections.connect(redis_url)
    yield own
    own.connection_pool.disconnect()


def blocked(client: redis.Redis) -> int:
    """Connections that block in Redis."""
    return int(client.info("clients")["blocked_clients"])


def test_a_handle_tells_status_attempts_progress_and_result(redis_client: redis.Redis, hands: Hands) -> None:
    job = sent(redis_client)
    assert (job.status(), job.attempts(), job.progress()) == ("queued", [], None)
    with pytest.raises(NotFinished, match="'j' has not finished: it is queued"):
        job.result()
    hands.work("default")
    assert (job.status(), job.result()) == ("finished", 3)
    assert job.wait(0) == 3


def test_a_thread_that_waits_wakes_when_the_job_ends(redis_client: redis.Redis, client: redis.Redis, hands: Hands) -> None:
    sent(redis_client)
    waiter = Waiter(JobHandle("j", client))
    wait_for(lambda: blocked(redis_client), 10, "the thread blocks")
    before = commands_of(redis_client)
    ended_at = time.monotonic()
    hands.work("default")
    assert waiter.ended() - ended_at < SOON_S and waiter.outcome == 3
    after = commands_of(redis_client)
    assert after["hgetall"] - before.get("hgetall", 0) <= 2, "one look at the end, and the claim's own"


def test_more_threads_than_may_block_wake_too_and_leave_connections_free(
    redis_client: redis.Redis, client: redis.Redis, hands: Hands
) -> None:
    sent(redis_client)
    waiters = [Waiter(JobHandle("j", client)) for _ in range(12)]
    wait_for(lambda: blocked(redis_client) == handle.MAX_BLOCKED, 10, "as many block as may")
    assert client.ping()
    ended_at = time.monotonic()
    hands.work("default")
    assert max(waiter.ended() for waiter in waiters) - ended_at < SOON_S + handle.LOOK_S
    assert [waiter.outcome for waiter in waiters] == [3] * 12


def test_a_dead_job_raises_what_it_died_of(redis_client: redis.Redis, client: redis.Redis, hands: Hands, ask: Ask) -> None:
    sent(redis_client)
    waiter = Waiter(JobHandle("j", client))
    wait_for(lambda: blocked(redis_client), 10, "the thread blocks")
    ended_at = time.monotonic()
    hands.fail(hands.must_claim("default"), Permanent("no such street"))
    assert waiter.ended() - ended_at < SOON_S
    assert waiter.outcome == JobFailed("j", "failed", "Permanent", "no such street")
    assert str(waiter.outcome) == "job 'j' is failed: Permanent: no such street"
    with pytest.raises(JobFailed):
        ask(lambda own: JobHandle("j", own).wait_async(5))


def test_a_redriven_job_is_waited_for_again(redis_client: redis.Redis, client: redis.Redis, hands: Hands) -> None:
    sent(redis_client)
    redis_client.xadd(keys.results("j"), {"type": 2}, id="1-1")
    waiter = Waiter(JobHandle("j", client))
    wait_for(lambda: blocked(redis_client), 10, "an entry of an earlier run wakes nobody")
    hands.work("default")
    waiter.ended()
    assert waiter.outcome == 3


def test_a_cancelled_job_has_no_result(redis_client: redis.Redis, client: redis.Redis, hands: Hands, ask: Ask) -> None:
    sent(redis_client)
    waiter = Waiter(JobHandle("j", client))
    wait_for(lambda: blocked(redis_client), 10, "the thread blocks")
    cancelled_at = time.monotonic()
    assert JobHandle("j", redis_client).cancel().status == "canceled"
    assert waiter.ended() - cancelled_at < SOON_S
    assert waiter.outcome == JobFailed("j", "canceled", "", "cancelled")
    with pytest.raises(JobFailed, match="job 'j' is canceled"):
        JobHandle("j", redis_client).wait(5)
    with pytest.raises(JobFailed, match="job 'j' is canceled"):
        ask(lambda own: JobHandle("j", own).wait_async(5))
    sent(redis_client, "other")
    assert ask(lambda own: JobHandle("other", own).cancel_async()).status == "canceled"
    sent(redis_client, "begun")
    hands.must_claim("default")
    with pytest.raises(Conflict):
        ask(lambda own: JobHandle("begun", own).cancel_async())


def test_waiting_ends_with_the_time_given(redis_client: redis.Redis, ask: Ask) -> None:
    job = sent(redis_client)
    started = time.monotonic()
    with pytest.raises(NotFinished):
        job.wait(0.3)
    with pytest.raises(NotFinished):
        ask(lambda own: JobHandle("j", own).wait_async(0.3))
    assert 0.6 <= time.monotonic() - started < 0.6 + 2 * SOON_S
    assert watching._watchers == {}


def test_a_job_without_a_kept_result_says_so(redis_client: redis.Redis, client: redis.Redis, hands: Hands, ask: Ask) -> None:
    sent(redis_client)
    waiter = Waiter(JobHandle("j", client))
    wait_for(lambda: blocked(redis_client), 10, "the thread blocks")
    ended_at = time.monotonic()
    hands.finish(hands.must_claim("default"), 3, result_ttl_s=0)
    assert waiter.ended() - ended_at < handle.SLICE_S + SOON_S
    assert isinstance(waiter.outcome, JobGone) and "without a kept result" in str(waiter.outcome)
    with pytest.raises(JobGone):
        ask(lambda own: JobHandle("j", own).wait_async(5))


def test_a_coroutine_that_waits_wakes_soon(redis_client: redis.Redis, hands: Hands, ask: Ask) -> None:
    sent(redis_client)

    async def wait(own: redis.asyncio.Redis) -> tuple[object, float]:
        waiting = asyncio.create_task(JobHandle("j", own).wait_async(20))
        await asyncio.sleep(2 * TICK_S)
        ended_at = time.monotonic()
        await asyncio.to_thread(hands.work, "default")
        return await waiting, time.monotonic() - ended_at

    result, late_s = ask(wait)
    assert result == 3 and late_s < SOON_S


def test_two_hundred_coroutines_share_one_look_a_tick(redis_client: redis.Redis, hands: Hands, ask: Ask) -> None:
    jobs = [sent(redis_client, f"j{number}").id for number in range(200)]

    async def wait(own: redis.asyncio.Redis) -> tuple[dict[str, int], dict[str, int], float]:
        waiting = [asyncio.create_task(JobHandle(job_id, own).wait_async(30)) for job_id in jobs]
        await asyncio.sleep(2 * TICK_S)
        before, started = await asyncio.to_thread(commands_of, redis_client), time.monotonic()
        await asyncio.sleep(8 * TICK_S)
        after, for_s = await asyncio.to_thread(commands_of, redis_client), time.monotonic() - started
        await asyncio.to_thread(hands.work_off, "default")
        assert await asyncio.gather(*waiting) == [3] * 200
        return before, after, for_s

    before, after, for_s = ask(wait)
    looks = (after["hmget"] - before["hmget"]) / len(jobs)
    assert 2 <= looks <= for_s / TICK_S + 1
    sent_besides = {name: after[name] - before.get(name, 0) for name in after if name not in ("hmget", "info")}
    assert sum(sent_besides.values()) <= 10, sent_besides
    assert looks == int(looks), "one pipeline for all"
    assert watching._watchers == {}


def test_waiting_outlives_an_absence_of_redis(own_server: Server) -> None:
    client = connections.connect(own_server.url)
    sent(client)
    waiter = Waiter(JobHandle("j", client))

    async def wait() -> object:
        own = connections.connect_async(own_server.url)
        try:
            return await JobHandle("j", own).wait_async(20)
        finally:
            await own.aclose()

    outcomes: list[object] = []
    thread = threading.Thread(target=lambda: outcomes.append(asyncio.run(wait())))
    thread.start()
    wait_for(lambda: blocked(client), 10, "the thread blocks")
    own_server.kill()
    own_server.start()
    wait_for(lambda: Hands(connections.connect(own_server.url)).work("default"), 20, "the job is done")
    waiter.ended()
    thread.join(20)
    assert (waiter.outcome, outcomes) == (3, [3])
    client.connection_pool.disconnect()


def test_a_key_that_is_no_job_does_not_blind_those_who_watch_others(redis_client: redis.Redis, ask: Ask, hands: Hands) -> None:
    async def both(client: redis.asyncio.Redis) -> object:
        odd = asyncio.create_task(anext(watching.changes(client, "odd")))
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(5):
                return await JobHandle("j", client).wait_async(60)
        finally:
            odd.cancel()

    redis_client.set(keys.job("odd"), "no hash")
    sent(redis_client)
    assert hands.work("default")
    assert ask(both) == 3
