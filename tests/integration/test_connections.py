"""The bounded pool that the jobs of a process share: everyone's turn comes, and every answer reaches the one who asked."""

import asyncio
import random
import threading
import time

import pytest

from jobs import connections
from jobs.errors import JobStopped

N_THREADS = 60
WITHIN_S = 5.0


def test_of_many_threads_on_few_connections_none_is_passed_over(redis_url: str) -> None:
    client = connections.connect(redis_url)
    served = [0] * N_THREADS
    ends_at = time.monotonic() + WITHIN_S

    def work(number: int) -> None:
        while time.monotonic() < ends_at and min(served) < 10:
            client.echo("here")
            served[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(served) >= 10
    assert len(client.connection_pool._connections) <= connections.MAX_SYNC_CONNECTIONS


def test_an_answer_that_an_interrupted_job_did_not_read_reaches_no_other_job(redis_url: str) -> None:
    client = connections.connect(redis_url)
    lent = client.connection_pool.get_connection()
    lent.send_command("BLPOP", "nothing", "0.2")
    with pytest.raises(JobStopped):
        try:
            raise JobStopped
        finally:
            client.connection_pool.release(lent)
    assert client.echo("mine") == b"mine"


def test_who_gives_up_in_the_line_or_with_a_connection_takes_no_place_along(redis_url: str) -> None:
    async def gives_up() -> None:
        async with asyncio.timeout(random.uniform(0, 0.004)):  # some still wait for a connection by then, some for an answer
            await client.echo("never mind")

    async def work() -> None:
        for _ in range(10):
            await asyncio.gather(*(gives_up() for _ in range(60)), return_exceptions=True)
        answers = await asyncio.gather(*(client.echo(str(number)) for number in range(60)))
        assert answers == [str(number).encode() for number in range(60)]
        blocked = [asyncio.create_task(client.blpop("nothing")) for _ in range(3)]
        while (await observer.info("clients"))["blocked_clients"] < 3:  # each has a place: none is lost
            await asyncio.sleep(0.01)
        for task in blocked:
            task.cancel()
        await asyncio.gather(*blocked, return_exceptions=True)
        await client.aclose()
        await observer.aclose()

    client, observer = connections.connect_async(redis_url, max_connections=3), connections.connect_async(redis_url)
    asyncio.run(asyncio.wait_for(work(), 60))
