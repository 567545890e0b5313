"""The embedded server: its data outlive it, nobody shares them, and it ends with its parent."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from survivors import left_behind

from jobs import embedded
from jobs.errors import DataDirInUse, NoRedis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.Server]:
    running = embedded.start(tmp_path / "data")
    yield running
    running.stop()


def test_an_answered_write_survives_a_sigkill_of_the_server(tmp_path: Path) -> None:
    first = embedded.start(tmp_path / "data")
    redis.Redis.from_url(first.url).set("kept", "yes")
    os.kill(first.process.pid, signal.SIGKILL)
    first.stop()
    second = embedded.start(tmp_path / "data")
    try:
        assert redis.Redis.from_url(second.url).get("kept") == b"yes"
    finally:
        second.stop()


def test_the_server_syncs_every_write_evicts_nothing_and_listens_on_a_private_socket_only(server: embedded.Server) -> None:
    config = redis.Redis.from_url(server.url, decode_responses=True).config_get("*")
    assert (config["appendonly"], config["appendfsync"], config["maxmemory-policy"]) == ("yes", "always", "noeviction")
    assert config["port"] == "0"
    socket = Path(config["unixsocket"])
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700


def test_each_engine_and_version_has_a_folder_of_its_own(server: embedded.Server) -> None:
    major, minor, _ = server.engine.version.split(".")
    assert server.folder.name == f"{server.engine.name}-{major}.{minor}"
    assert (server.folder / "appendonlydir").is_dir()


def test_running_url_leads_to_the_server_and_says_what_to_do_when_there_is_none(server: embedded.Server) -> None:
    data_dir = server.folder.parent
    assert embedded.running_url(data_dir) == server.url
    server.stop()
    with pytest.raises(NoRedis, match=r"REDIS_URL is not set .*python3 -m jobs up"):
        embedded.running_url(data_dir)


def test_running_url_does_not_trust_what_a_killed_server_left(server: embedded.Server) -> None:
    server.process.kill()
    server.process.wait()
    assert (server.folder.parent / "run" / "redis.sock").exists()
    with pytest.raises(NoRedis):
        embedded.running_url(server.folder.parent)


def test_a_second_start_on_the_same_data_names_the_holder_and_leaves_the_first_alone(server: embedded.Server) -> None:
    with pytest.raises(DataDirInUse, match=r"in use by process \d+ since \d{4}-") as refused:
        embedded.start(server.folder.parent)
    assert refused.value.pid == os.getpid()
    assert redis.Redis.from_url(server.url).ping()


def test_a_holder_that_has_not_written_its_name_yet_is_refused_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "HANDOVER_LIMIT_S", 0.0)
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataDirInUse):
            embedded.hold(tmp_path)


def test_data_can_be_started_again_after_a_failed_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "OPTIONS", "--no-such-option 1")
        with pytest.raises(NoRedis, match="did not start"):
            embedded.start(data_dir)
    embedded.start(data_dir).stop()


def test_a_path_too_long_for_a_socket_puts_the_socket_elsewhere(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long" * 30)
    server = embedded.start(data_dir)
    try:
        assert len(server.url) < len(str(data_dir))
        assert embedded.running_url(data_dir) == server.url
        assert redis.Redis.from_url(server.url).ping()
    finally:
        server.stop()
        Path(server.url.removeprefix("unix://")).parent.rmdir()


HOLDER = """
import sys, time
from pathlib import Path
from jobs import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_server_ends_with_its_killed_parent_and_the_next_start_waits_for_that(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    parent = subprocess.Popen([sys.executable, "-c", HOLDER, str(data_dir)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0
    parent.kill()
    parent.wait()
    parent.stdout.close()
    embedded.start(data_dir).stop()
    assert left_behind(data_dir) == []


def test_nobody_opens_the_data_of_a_server_that_has_lost_its_holder(server: embedded.Server) -> None:
    server.lock.close()  # as the kernel does when the process that started it dies
    with pytest.raises(DataDirInUse):
        embedded.start(server.folder.parent)
    assert redis.Redis.from_url(server.url).ping()
