"""The watch: what it raises inside a job, and that nothing of it is raised anywhere else."""

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jobs.errors import JobStopped, TimeLimitExceeded
from jobs.queue.ending import Claim
from jobs.queue.watch import WAKE, Watch

CLAIM = Claim("j1", "e1", "default", "w1", {}, 0.0)
FOREVER_S = 3_600.0
INTERVAL_S = 0.02
LIMIT_S = 5.0


class Beats:
    """Counts heartbeats; each of them fails."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, _claim: Claim | None) -> None:
        self.n += 1
        raise OSError("the disk of the log is full")


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def watch(beats: Beats) -> Iterator[Watch]:
    before = signal.getsignal(WAKE)
    watch = Watch(beats, INTERVAL_S)
    watch.start()
    yield watch
    watch.stop()
    signal.signal(WAKE, before)


def spend(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.001)


def test_a_heartbeat_that_fails_in_whatever_way_ends_neither_heartbeats_nor_time_limits(watch: Watch, beats: Beats) -> None:
    with pytest.raises(TimeLimitExceeded):
        try:
            watch.begin(CLAIM, 5 * INTERVAL_S, FOREVER_S)
            spend(LIMIT_S)
        finally:
            watch.end()
    assert beats.n > 2


def test_what_comes_when_the_job_has_ended_is_dropped(watch: Watch) -> None:
    watch.begin(CLAIM, FOREVER_S, FOREVER_S)
    watch.end()
    on_thread(lambda: watch.interrupt(JobStopped()))
    spend(2 * INTERVAL_S)


def on_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "the watch is locked"


class Interrupted:
    """The lock of the watch, whose holder is interrupted when it has got it, and before it gives it back."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._lock = watch._changed
        self.notify = self._lock.notify

    def __enter__(self) -> None:
        self._lock.acquire()
        self._strike()

    def __exit__(self, *_error: object) -> None:
        self._strike()
        self._lock.release()

    def _strike(self) -> None:
        self._watch._pending = JobStopped()
        self._watch._deliver(WAKE, None)


def test_an_interruption_while_the_job_begins_strikes_the_job_and_not_the_watch(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised while the main thread holds the lock, it would leave that lock held for ever."""
    with monkeypatch.context() as patched:
        patched.setattr(watch, "_changed", Interrupted(watch))
        with pytest.raises(JobStopped):
            watch.begin(CLAIM, FOREVER_S, FOREVER_S)
    watch.end()
    on_thread(lambda: watch.interrupt(JobStopped()))


def test_an_interruption_while_the_job_ends_is_dropped(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.begin(CLAIM, FOREVER_S, FOREVER_S)
    with monkeypatch.context() as patched:
        patched.setattr(watch, "_changed", Interrupted(watch))
        watch.end()
    on_thread(lambda: watch.interrupt(JobStopped()))
