"""Small real tasks for whoever tries the queue by hand; on the allow-list only when TURNSTILE_SAMPLES=1."""

import os
import signal
import sys
import time

from jobs import connections, keys
from jobs.queue.backoff import Backoff
from jobs.queue.batches import Item, batch
from jobs.queue.running import running_job
from jobs.queue.task import task

FAIL_FAST = Backoff(max_attempts=10, base_s=0.1, cap_s=1.0)
CRASH_TTL_S = 3_600


class Planned(Exception):
    """Raised by `fail_times` as often as it was asked to."""


@task(name="samples.print_sentence")
def print_sentence(text: str, times: int = 5) -> int:
    """Prints the text, a line each time; returns how often."""
    for _ in range(times):
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return times


@task(name="samples.add")
def add(x: float, y: float) -> float:
    """The sum."""
    return x + y


@task(name="samples.sleep")
def sleep(seconds: float) -> float:
    """Sleeps; returns how long it was asked to."""
    time.sleep(seconds)
    return seconds


@task(name="samples.progress")
def progress(steps: int, pause_s: float = 0.1) -> int:
    """Takes that many steps with a pause after each and reports them; returns how many."""
    job = running_job()
    for step in range(steps):
        job.progress(step, steps, f"step {step + 1} of {steps}")
        time.sleep(pause_s)
    job.progress(steps, steps, "done")
    return steps


@task(name="samples.fail_times", retry=FAIL_FAST)
def fail_times(n: int, key: str) -> int:
    """Fails in its first n attempts, then returns the attempt's number."""
    attempt = running_job().attempt
    if attempt <= n:
        raise Planned(f"{key}: attempt {attempt} of {n} that fail")
    return attempt


@task(name="samples.crash")
def crash(key: str) -> int:
    """Kills its own process once per key, then returns how often it was started."""
    with connections.process_client().pipeline(transaction=True) as pipeline:
        pipeline.incr(keys.SAMPLE_CRASH_PREFIX + key)
        pipeline.expire(keys.SAMPLE_CRASH_PREFIX + key, CRASH_TTL_S)
        starts = int(pipeline.execute()[0])
    if starts == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return starts


@batch(name="samples.sum_up", linger_s=1.0)
def sum_up(items: list[Item]) -> list[float]:
    """The sum of each item, a list of numbers. When one is not, each goes on alone, and that one fails."""
    return [sum(item.value) for item in items]
