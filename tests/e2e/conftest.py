"""A running system for the end-to-end tests of a module."""

import os
import socket
from collections.abc import Callable, Iterator

import pytest
from carriers import Carrier
from processes import ROOT, Processes
from servers import Server
from system import System

Build = Callable[..., System]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def module_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Processes that live as long as the module's tests."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    started = Processes(tmp_path_factory.mktemp("processes"), environ)
    yield started
    started.end()


@pytest.fixture(scope="module")
def build(module_processes: Processes, _carrier: Carrier) -> Iterator[Build]:
    """Builds a system with extra environment; nothing of it is started yet."""
    _carrier.tell(mode="ok")  # whatever the tests before have told it
    built: list[System] = []

    def make(**environ: str) -> System:
        server = Server()
        server.start()
        built.append(System(server, module_processes, _carrier, _free_port(), **environ))
        return built[-1]

    yield make
    for system in built:
        system.close()


@pytest.fixture(scope="module")
def system(build: Build) -> System:
    """The Procfile's processes, ready to answer."""
    made = build()
    made.start()
    made.ask("GET", "/readyz")
    return made
