"""The README's first command on a fresh copy of the tree: it installs, starts, answers, stops, and says what is in its way."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processes import ROOT, wait_for
from survivors import left_behind

INSTALL_LIMIT_S = 300.0
START_LIMIT_S = 40.0
STOP_LIMIT_S = 60.0
PYTHON = getattr(sys, "_base_executable", sys.executable)
NOT_IN_THE_ARCHIVE = (".git", ".venv", ".turnstile", "__pycache__", ".*_cache", ".hypothesis")


class Run:
    """One `python3 -m jobs up` in the copy."""

    def __init__(self, folder: Path, log: Path, **environ: str) -> None:
        self.folder = folder
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "jobs", "up"],
                cwd=folder,
                env={**os.environ, "PORT": "0", **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def ready(self, limit_s: float = START_LIMIT_S) -> str:
        """The page's URL, once it has been announced."""
        said = wait_for(lambda: "Ctrl-C stops" in self.text or self.process.poll() is not None, limit_s, "it is ready")
        page = re.search(r"the page +(http://\S+)", self.text)
        assert said and page, self.text
        return page[1]

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_LIMIT_S)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `git archive` gives of HEAD, without a `.venv`; of a tree that is no repository, the tree."""
    folder = tmp_path_factory.mktemp("copy") / "turnstile"
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=False)
    if archive.returncode == 0:
        folder.mkdir()
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    else:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_THE_ARCHIVE))
    first = Run(folder, folder.parent / "first.log")
    try:
        first.ready(INSTALL_LIMIT_S)
    finally:
        code = first.stop()
    assert code == 0, first.text
    assert left_behind(folder) == []
    yield folder


@pytest.fixture
def running(copy: Path, tmp_path: Path) -> Iterator[Run]:
    run = Run(copy, tmp_path / "up.log")
    run.ready()
    yield run
    if run.process.poll() is None:
        run.stop(signal.SIGTERM)


def refused(copy: Path, log: Path, **environ: str) -> str:
    """What a start says that must not succeed; nothing may be left of it."""
    before = left_behind(copy)
    run = Run(copy, log, **environ)
    try:
        code = run.process.wait(START_LIMIT_S)
    finally:
        run.process.kill()
        run.process.wait()
    assert code == 2, run.text
    assert "Traceback" not in run.text
    assert left_behind(copy) == before
    return run.text


def get(url: str) -> int:
    return httpx.get(url, timeout=10, trust_env=False).status_code


@pytest.mark.timeout(INSTALL_LIMIT_S + STOP_LIMIT_S)
def test_a_fresh_copy_installs_starts_and_stops_on_ctrl_c_without_a_trace(copy: Path) -> None:
    text = (copy.parent / "first.log").read_text()
    assert "turnstile: installing" in text
    assert "ready, with the data in" in text
    assert str(copy / ".turnstile") in text
    assert "Traceback" not in text


def test_it_announces_a_page_and_documents_that_answer(running: Run) -> None:
    page = running.ready()
    assert [get(page), get(page + "docs"), get(page + "readyz")] == [200, 200, 200]


def test_a_second_start_installs_nothing(copy: Path, tmp_path: Path) -> None:
    run = Run(copy, tmp_path / "again.log")
    try:
        run.ready()
    finally:
        assert run.stop() == 0
    assert "installing" not in run.text


def test_a_second_start_on_the_same_data_says_who_holds_them(running: Run, tmp_path: Path) -> None:
    text = refused(running.folder, tmp_path / "second.log")
    assert re.search(rf"{running.folder}/\.turnstile is in use by process {running.process.pid} since \d{{4}}-", text)
    assert get(running.ready() + "readyz") == 200


def test_a_port_in_use_is_named_with_another_one(copy: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = refused(copy, tmp_path / "up.log", PORT=str(port))
    assert f"port {port} of 127.0.0.1 cannot be used: Address already in use; set PORT to another one" in text


def test_an_unknown_setting_and_a_bad_value_are_both_named(copy: Path, tmp_path: Path) -> None:
    text = refused(copy, tmp_path / "up.log", TURNSTILE_DATADIR="x", PORT="eighty")
    assert "TURNSTILE_DATADIR='x': unknown setting; did you mean TURNSTILE_DATA_DIR?" in text
    assert "PORT='eighty': a whole number is needed" in text


def test_a_redis_that_cannot_be_reached_is_named_without_its_password(copy: Path, tmp_path: Path) -> None:
    text = refused(copy, tmp_path / "up.log", REDIS_URL="redis://shop:s3cret@127.0.0.1:9/0")
    assert "REDIS_URL: redis://127.0.0.1:9/0 cannot be reached: " in text
    assert "s3cret" not in text


def test_a_given_redis_is_used_instead_of_an_embedded_one(copy: Path, tmp_path: Path, redis_url: str) -> None:
    data_dir = tmp_path / "data"
    run = Run(copy, tmp_path / "up.log", REDIS_URL=redis_url, TURNSTILE_DATA_DIR=str(data_dir))
    try:
        assert get(run.ready() + "readyz") == 200
        assert list(data_dir.glob("valkey-*")) == []
    finally:
        assert run.stop() == 0


def test_ctrl_c_lets_a_delivery_in_flight_finish(running: Run, tmp_path: Path) -> None:
    page = running.ready()
    carrier = re.search(r"carrier +(http://\S+)", running.text)
    assert carrier
    client = httpx.Client(timeout=10, trust_env=False)
    client.post(f"{carrier[1]}/control", json={"mode": "stall", "delay_s": 2.0}).raise_for_status()
    order = {"reference": "in flight", "customer": "1", "country": "France", "lines": [{"sku": "A", "quantity": 1}]}
    location = client.post(f"{page}v1/orders", json=order, headers={"Idempotency-Key": "in-flight"}).headers["Location"]
    url = httpx.URL(page).join(location)
    wait_for(lambda: client.get(f"{carrier[1]}/control").json()["used"], START_LIMIT_S, "the carrier was called")
    assert running.stop() == 0
    again = Run(running.folder, tmp_path / "again.log")
    try:
        found = client.get(httpx.URL(again.ready()).join(url.path)).json()
    finally:
        assert again.stop() == 0
    assert found["status"] == "delivered", running.text
    assert [attempt.get("error") for attempt in found["attempts"]] == [None] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_sigkill_leaves_no_process_for_long_and_does_not_block_the_next_start(running: Run, tmp_path: Path) -> None:
    running.process.kill()
    running.process.wait()
    wait_for(lambda: not left_behind(running.folder), STOP_LIMIT_S, "nothing is left behind")
    again = Run(running.folder, tmp_path / "again.log")
    try:
        assert get(again.ready() + "readyz") == 200
    finally:
        assert again.stop() == 0
