"""Every crash point, met by all that can meet it: the process dies there, and what it did is brought to a good end."""

import contextlib
import gc
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import redis
import scenes_duties as _duties  # noqa: F401  scenes are noted where they stand
import scenes_jobs as _jobs  # noqa: F401
import scenes_letters as _letters  # noqa: F401
import scenes_orders as _orders  # noqa: F401
import scenes_repairs as _repairs  # noqa: F401
import scenes_web as _web  # noqa: F401
from asking import Ask
from carriers import Carrier
from crash_world import SCENES, World
from doomed import die_at
from hands import Hands
from mall_floor import Floor
from processes import ROOT, Processes, wait_for
from receivers_told import ENVIRON, Receiver

from jobs import crash_points
from jobs import settings as settings_module
from jobs.crash_points import POINTS
from jobs.errors import BadSettings
from jobs.mall import carrier as carrier_module
from jobs.settings import Settings

CASES = [(name, point) for name, scene in SCENES.items() for point in scene.points]


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """What is imported stays out of the children's garbage collections, which would copy all of it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One for all: each case has a name of its own there."""
    folder = tmp_path_factory.mktemp("receiver")
    processes = Processes(folder, os.environ)
    yield Receiver(processes, folder)
    processes.end()


@pytest.fixture
def world(
    redis_client: redis.Redis,
    redis_url: str,
    hands: Hands,
    floor: Floor,
    ask: Ask,
    carrier: Carrier,
    settings: Settings,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """An empty mall with a carrier, and somebody who is told of orders."""
    for name, value in (ENVIRON | {"CARRIER_URL": carrier.url}).items():
        monkeypatch.setenv(name, value)
    settings_module.current.cache_clear()
    carrier_module._client.cache_clear()
    return World(redis_client, redis_url, settings_module.current(), hands, floor, ask, carrier, receiver)


@pytest.mark.parametrize(("name", "point"), CASES, ids=[f"{point}-{name}" for name, point in CASES])
def test_a_process_that_dies_there_loses_nothing_and_does_nothing_twice(world: World, name: str, point: str) -> None:
    SCENES[name].play(world, point)


def test_each_point_stands_in_one_place_of_the_code() -> None:
    sources = [path.read_text() for folder in ("jobs", "scheduler", "web") for path in (ROOT / folder).rglob("*.py")]
    found = Counter(name for source in sources for name in re.findall(r'crash_points\.reach\("([^"]+)"\)', source))
    assert found == dict.fromkeys(POINTS, 1)


def test_each_point_is_met_in_some_scene() -> None:
    assert {point.partition(":")[0] for _name, point in CASES} == POINTS.keys()


@pytest.mark.parametrize(("text", "reason"), [("claim", "there are accept.asked,"), ("claim.asked:0", "from 1 on")])
def test_a_start_with_an_unknown_point_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadSettings, match=f"TURNSTILE_CRASH_AT='{text}': .*{reason}"):
        Settings.from_env({"TURNSTILE_CRASH_AT": text})


@pytest.mark.parametrize(
    ("command", "point"),
    [
        (("python", "-m", "web"), "entries.asked"),
        (("python", "-m", "scheduler"), "lead.won"),
        (("rq", "worker", "-c", "jobs.rq_config", "default"), "beat.answered"),
    ],
)
def test_each_process_obeys_the_environment_and_says_so(
    processes: Processes, free_port: int, command: tuple[str, ...], point: str
) -> None:
    process = processes.start(*command, TURNSTILE_CRASH_AT=point, PORT=str(free_port))

    def is_dead() -> bool:
        with contextlib.suppress(httpx.TransportError):
            httpx.post(f"http://127.0.0.1:{free_port}/v1/entries", json={"gate": "n", "event_id": "e"}, trust_env=False)
        return not process.runs

    wait_for(is_dead, 60, f"it dies at {point}")
    assert process.ended(1) == -signal.SIGKILL
    assert "told to crash: never do that in production" in process.output and f"crashes at {point}\n" in process.output


def test_a_point_is_for_the_nth_time_and_ends_one_process() -> None:
    def pass_twice() -> None:
        crash_points.reach("claim.asked")
        if os.fork() == 0:
            crash_points.reach("claim.answered")
            crash_points.reach("claim.asked")
        os.wait()
        crash_points.reach("claim.asked")

    die_at("claim.asked:2", pass_twice, in_child=True)
