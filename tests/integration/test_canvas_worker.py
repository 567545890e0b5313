"""Canvases run by real workers, ours and stock ones, killed in the middle."""

import signal
from pathlib import Path

import redis
import sample_tasks
from job_watch import LIMIT_S, wait_for_file
from processes import Processes

from jobs import keys
from jobs.queue.canvas import chain, chord, chunks, group, map
from jobs.queue.canvas_handle import launch
from jobs.queue.canvas_parts import Chain, signature

COLLECT, ADD = sample_tasks.collect, sample_tasks.add


def nested(folder: Path) -> Chain:
    """A canvas of everything, with a job in its middle that waits for a file."""
    hold = signature(sample_tasks.hold, (str(folder),), immutable=True)
    return chain(
        signature(ADD, (1, 2)),
        chord([signature(ADD, (10,)), chain(hold, signature(ADD, (5,))), chunks(ADD, [(1,), (2,)], 1)], signature(COLLECT)),
        map(COLLECT, ["a", "b"]),
        signature(sample_tasks.add_later, (1, 1), immutable=True),
    )


def test_two_workers_run_a_nested_canvas(redis_client: redis.Redis, processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    processes.worker("default")
    processes.worker("default")
    handle = launch(redis_client, group(nested(tmp_path), chain(signature(ADD, (1, 2)), map(COLLECT, [7]))))
    assert handle.wait(LIMIT_S) == [2, [[3, 7]]]


def test_a_worker_that_is_killed_in_the_middle_costs_the_canvas_nothing(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    handle = launch(redis_client, nested(tmp_path))
    victim = processes.worker("default")
    wait_for_file(tmp_path / "started-1")
    victim.send(signal.SIGKILL)
    victim.ended(LIMIT_S)
    left = redis_client.zrange(keys.wip("default"), 0, -1)
    redis_client.zadd(keys.wip("default"), dict.fromkeys(left, 0))
    (tmp_path / "go").touch()
    processes.worker("default")
    processes.start("python", "-m", "scheduler")
    assert handle.wait(LIMIT_S) == 2
    view = handle.view()
    assert (view.done, view.failed) == (view.total, 0)


def test_a_stock_worker_hands_over_too(redis_client: redis.Redis, processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    handle = launch(redis_client, nested(tmp_path))
    failing = launch(redis_client, chain(signature(sample_tasks.refuse, ("no",)), signature(COLLECT)))
    processes.stock_worker("default")
    assert handle.wait(LIMIT_S) == 2
    assert failing.view().failures[0].error == "dead: Permanent: no"
