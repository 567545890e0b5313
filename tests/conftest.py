"""What every test may ask for: a private Redis, the product's settings pointed to it, real processes, the carrier.

Helper modules in this folder are imported by their bare names (`import chromium`): rq-dashboard installs a
top-level package called `tests`, so `tests.` cannot be relied on.
"""

import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
import structlog

# The modules of the mall read the settings when they are imported: a developer's own environment must not reach them.
os.environ.setdefault("TEST_REDIS", os.environ.pop("TURNSTILE_TEST_REDIS", ""))
for _name in [name for name in os.environ if name.startswith("TURNSTILE_")]:
    del os.environ[_name]
for _name in ("REDIS_URL", "CARRIER_URL", "PORT", "HOST", "WEB_CONCURRENCY"):
    os.environ.pop(_name, None)

from asking import Ask  # noqa: E402
from carriers import Carrier  # noqa: E402
from hands import Hands  # noqa: E402
from killing import Killer  # noqa: E402
from mall_floor import Floor  # noqa: E402
from processes import ROOT, Processes  # noqa: E402
from servers import Server  # noqa: E402

from jobs import connections  # noqa: E402
from jobs import settings as settings_module  # noqa: E402
from jobs.mall import carrier as carrier_module  # noqa: E402
from jobs.queue import routing  # noqa: E402
from jobs.settings import Settings  # noqa: E402


@pytest.fixture(autouse=True)
def _clean_context() -> None:
    """What a task that ran in the tests' own process has bound for the log is not the next test's."""
    structlog.contextvars.clear_contextvars()


# The same cases in every run, on however slow a machine; `--hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", max_examples=3_000, deadline=None, database=None)
hypothesis.settings.load_profile("suite")

NOWHERE = "http://127.0.0.1:9"
"""Where nobody listens."""


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """The run's own server; its data are on disk before each answer."""
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server for one test alone, which may kill it or fill it up."""
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """The URL of the run's own server."""
    return redis_server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty Redis."""
    client = connections.connect(redis_url)
    client.flushall()
    yield client
    client.connection_pool.disconnect()


@pytest.fixture
def ask(redis_url: str) -> Ask:
    """For the functions that take an async client."""
    return Ask(redis_url)


@pytest.fixture
def settings(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of this process, and of the tasks that run in it: the test's Redis, a carrier that is not there."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("CARRIER_URL", NOWHERE)
    _forget()
    yield settings_module.current()
    connections.process_client().connection_pool.disconnect()
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for cached in (settings_module.current, connections.process_client, carrier_module._client, routing.routed):
        cached.cache_clear()


@pytest.fixture
def near_carrier(settings: Settings, carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> Carrier:
    """The carrier service where the tasks that run in this process find it; its slow answers are soon too slow."""
    monkeypatch.setenv("CARRIER_URL", carrier.url)
    monkeypatch.setenv("TURNSTILE_CARRIER_TIMEOUT_S", "0.3")
    _forget()
    return carrier


@pytest.fixture
def hands(redis_client: redis.Redis, settings: Settings) -> Hands:
    """A worker by hand."""
    return Hands(redis_client)


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Kills the worker by hand between any two of its round trips."""
    return Killer(monkeypatch)


@pytest.fixture
def floor(redis_client: redis.Redis, ask: Ask, settings: Settings) -> Floor:
    """The mall without the web."""
    return Floor(redis_client, ask, settings)


@pytest.fixture
def process_environ(redis_url: str) -> dict[str, str]:
    """The environment of a process that works on the test's Redis, with tests/ on its path; a test may add to it."""
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "CARRIER_URL": NOWHERE,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }


@pytest.fixture
def processes(tmp_path: Path, process_environ: dict[str, str]) -> Iterator[Processes]:
    """Starts processes; what is left of them at the test's end is killed, and shown when the test failed."""
    started = Processes(tmp_path, process_environ)
    yield started
    started.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the processes of a failed test printed."""
    report = yield
    started = getattr(item, "funcargs", {}).get("processes")
    if report.failed and isinstance(started, Processes):
        report.sections += started.report()
    return report


@pytest.fixture(scope="session")
def _carrier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carrier]:
    folder = tmp_path_factory.mktemp("carrier")
    started = Processes(folder, {**os.environ, "PYTHONPATH": str(ROOT)})
    running = Carrier.started(started, folder)
    yield running
    running.close()
    started.end()


@pytest.fixture
def carrier(_carrier: Carrier) -> Carrier:
    """The carrier service, behaving well until it is told otherwise."""
    _carrier.tell(mode="ok")
    return _carrier


@pytest.fixture
def free_port() -> int:
    """A TCP port on loopback that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
