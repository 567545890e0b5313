"""`python -m jobs send` and the samples: from one terminal to the worker of another, and what is said when it cannot be."""

import signal
import sys

import pytest
import redis
from processes import Process, Processes, wait_for

from jobs import keys
from jobs.__main__ import COMMANDS
from jobs.queue.handle import JobHandle

SEND = f"import sys; from {COMMANDS['send'][0]} import main; sys.exit(main(sys.argv[1:]))"
CRASH = "from jobs.queue.samples import crash; print('start', crash('k'))"
LIMIT_S = 30.0


def start(processes: Processes, *words: str) -> Process:
    return processes.start(*words, TURNSTILE_SAMPLES="1")


def send(processes: Processes, *words: str, code: int = 0) -> str:
    process = start(processes, sys.executable, "-c", SEND, *words)
    assert process.ended(LIMIT_S) == code, process.output
    return process.output.strip()


def work(processes: Processes) -> Process:
    return processes.worker("default", config="jobs.rq_config", TURNSTILE_SAMPLES="1")


def test_a_sentence_sent_from_one_terminal_is_printed_five_times_by_the_worker_of_another(
    redis_client: redis.Redis, processes: Processes
) -> None:
    worker = work(processes)
    send(processes, "samples.print_sentence", "doors = open")
    wait_for(lambda: worker.output.count("doors = open\n") == 5, LIMIT_S, "it has printed five lines")


def test_a_sample_fails_as_often_as_it_was_asked_to(redis_client: redis.Redis, processes: Processes) -> None:
    work(processes)
    start(processes, sys.executable, "-m", "scheduler")
    assert JobHandle(send(processes, "samples.fail_times", "n=2", "key=k"), redis_client).wait(LIMIT_S) == 3


def test_a_sample_crashes_once_for_each_key_and_leaves_nothing_for_ever(redis_client: redis.Redis, processes: Processes) -> None:
    assert start(processes, sys.executable, "-c", CRASH).ended(LIMIT_S) == -signal.SIGKILL
    assert 0 < redis_client.ttl(keys.SAMPLE_CRASH_PREFIX + "k") <= 3_600
    start(processes, sys.executable, "-c", CRASH).prints("start 2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no.such"], "task 'no.such' is not on the allow-list"),
        (["samples.add", "1"], "y"),
        (["samples.add", "1", "2", "z=2"], "'z'"),
        (["samples.add", "1", "2", "--in", "nan"], "due_at"),
        (["samples.print_sentence", b"\xff".decode(errors="surrogateescape")], "text"),
    ],
)
def test_what_cannot_be_sent_is_named_without_a_traceback(
    redis_client: redis.Redis, processes: Processes, words: list[str], says: str
) -> None:
    said = send(processes, *words, code=2)
    assert says in said and "Traceback" not in said
    assert redis_client.llen(keys.queue("default")) == 0


def test_a_full_redis_is_a_sentence_and_no_traceback(redis_client: redis.Redis, processes: Processes) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        said = send(processes, "samples.add", "1", "2", code=2)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert "maxmemory" in said and "Traceback" not in said
