"""The bounded pool that the jobs of a process share: everyone's turn comes, and every answer reaches the one who asked."""

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
