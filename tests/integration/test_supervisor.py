"""`up` with small processes of its own: the order of things, who is told what, and that nothing stays behind."""

import array
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import wait_for
from survivors import left_behind

LIMIT_S = 30.0
ROOT = Path(__file__).parents[2]

DRIVER = """
import os, sys
from pathlib import Path
from jobs import supervisor, up
from jobs.settings import Settings
supervisor.STOP_LIMIT_S = float(sys.argv[2])
sys.exit(up.up(Settings.from_env(), os.environ, Path.cwd(), Path(sys.argv[1])))
"""

# A process that says what it is told: each signal, one line; it ends after the first SIGTERM unless it is stubborn.
LISTENER = """
import os, signal, sys, time
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def hear(number, frame):
    say("heard", number)
    if "stubborn" not in sys.argv:
        time.sleep(float(os.environ.get("LINGER_S", "0")))
        say("finished")
        os._exit(0)
signal.signal(signal.SIGTERM, hear)
signal.signal(signal.SIGINT, hear)
say("pid", os.getpid())
while True:
    time.sleep(0.05)
"""

WEB = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Up:
    """A running `up` and what it has printed."""

    def __init__(self, folder: Path, procfile: str, stop_limit_s: float, **env: str) -> None:
        for name, source in (("listener.py", LISTENER), ("web.py", WEB)):
            (folder / name).write_text(source)
        (folder / "Procfile").write_text(procfile.replace("listener.py", str(folder / "listener.py")))
        self.log = folder / "output"
        self.environ = {
            **os.environ,
            "PORT": "0",
            "CARRIER_URL": "http://127.0.0.1:9",
            "TURNSTILE_DATA_DIR": str(folder / "data"),
            **env,
        }
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(folder / "Procfile"), str(stop_limit_s)],
                cwd=ROOT,
                env=self.environ,
                stdout=output,
                stderr=output,
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def lines(self, name: str) -> list[str]:
        lines = (line.partition(" | ") for line in self.text.splitlines())
        return [text for who, _, text in lines if who.strip() == name]

    def until_says(self, name: str, part: str) -> None:
        wait_for(lambda: any(part in line for line in self.lines(name)), LIMIT_S, f"{name} says {part!r}")

    def ends(self) -> int:
        return self.process.wait(LIMIT_S)

    def pid(self, name: str) -> int:
        return next(int(line.split()[1]) for line in self.lines(name) if line.startswith("pid "))


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []

    def run(procfile: str, stop_limit_s: float = 10.0, **env: str) -> Up:
        started.append(Up(tmp_path, procfile, stop_limit_s, **env))
        return started[-1]

    yield run
    for up in started:
        if up.process.poll() is None:
            up.process.terminate()
        up.process.wait(LIMIT_S)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_passes_one_sigterm_on_waits_and_ends_with_0(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # also where the tests were started by nohup
    try:
        up = start("one: python listener.py\ntwo: python listener.py", LINGER_S="0.3")
    finally:
        signal.signal(number, before)
    up.until_says("one", "pid")
    up.until_says("two", "pid")
    up.process.send_signal(number)
    assert up.ends() == 0
    for name in ("one", "two"):
        assert up.lines(name)[1:] == [f"heard {signal.SIGTERM.value}", "finished"]
    assert left_behind(tmp_path) == []


def test_ctrl_c_is_heard_by_one_that_a_shell_started_in_the_background(start: Start, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell without job control does for `&`
    try:
        up = start("one: python listener.py")
    finally:
        signal.signal(signal.SIGINT, before)
    up.until_says("one", "pid")
    up.process.send_signal(signal.SIGINT)
    assert up.ends() == 0
    assert left_behind(tmp_path) == []


def test_redis_is_there_until_the_last_process_has_ended(start: Start) -> None:
    up = start("one: python listener.py", LINGER_S="1")
    up.until_says("one", "pid")
    up.process.terminate()
    up.until_says("one", "heard")
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(up.environ["TURNSTILE_DATA_DIR"] + "/run/redis.sock")
        redis.sendall(b"PING\r\n")
        assert redis.recv(100) == b"+PONG\r\n"
    assert up.ends() == 0
    assert up.lines("one")[-1] == "finished"


def test_a_process_that_ends_stops_the_others_and_gives_its_code(start: Start, tmp_path: Path) -> None:
    up = start("steady: python listener.py\nfailing: python -c 'import time; time.sleep(1); raise SystemExit(7)'")
    assert up.ends() == 7
    assert "failing ended with code 7: everything is stopped" in up.text
    assert "finished" in up.lines("steady")
    assert left_behind(tmp_path) == []


def test_a_process_killed_by_a_signal_gives_128_and_its_number(start: Start) -> None:
    up = start("one: python listener.py\ntwo: python listener.py")
    up.until_says("one", "pid")
    up.until_says("two", "pid")
    os.kill(up.pid("two"), signal.SIGKILL)
    assert up.ends() == 128 + signal.SIGKILL
    assert "finished" in up.lines("one")


def test_what_outlives_the_limit_is_killed_with_its_whole_group(start: Start, tmp_path: Path) -> None:
    up = start("one: sh -c 'python listener.py stubborn & exec python listener.py stubborn'", stop_limit_s=0.5)
    wait_for(lambda: sum(line.startswith("pid") for line in up.lines("one")) == 2, LIMIT_S, "both have started")
    up.process.terminate()
    assert up.ends() == 1
    assert "one has not ended: killed" in up.text
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to the supervisor")
def test_an_orphan_in_a_session_of_its_own_does_not_stay_behind(start: Start, tmp_path: Path) -> None:
    spawn = "import subprocess, sys; subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True).wait()"
    up = start(f'one: python -c "{spawn}" listener.py stubborn')
    up.until_says("one", "pid")
    up.process.terminate()
    assert up.ends() == 0
    assert left_behind(tmp_path) == []


def test_a_second_ctrl_c_kills_at_once_and_still_stops_redis_properly(start: Start, tmp_path: Path) -> None:
    up = start("one: python listener.py stubborn", stop_limit_s=60.0)
    up.until_says("one", "pid")
    up.process.send_signal(signal.SIGINT)
    up.until_says("one", "heard")
    up.process.send_signal(signal.SIGINT)
    assert up.ends() == 130
    assert "Valkey is now ready to exit, bye bye" in (tmp_path / "data" / "valkey-9.1" / "server.log").read_text()
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_sigkill_of_the_supervisor_ends_its_processes_and_blocks_no_start(start: Start, tmp_path: Path) -> None:
    up = start("one: python listener.py")
    up.until_says("one", "pid")
    up.process.kill()
    up.ends()
    wait_for(lambda: not left_behind(tmp_path), LIMIT_S, "nothing is left behind")
    again = start("one: python listener.py")
    again.until_says("one", "pid")
    again.process.terminate()
    assert again.ends() == 0


def test_it_announces_the_page_when_the_web_is_ready(start: Start, tmp_path: Path) -> None:
    up = start(f"web: python {tmp_path}/web.py")
    up.until_says("up", "Ctrl-C stops")
    assert "the page   http://127.0.0.1:" in up.text
    assert str(tmp_path / "data") in up.text


def test_it_stops_when_the_reader_of_its_output_is_gone(start: Start, tmp_path: Path) -> None:
    environ = {**start("one: python listener.py").environ, "TURNSTILE_DATA_DIR": str(tmp_path / "other")}
    chatty = tmp_path / "chatty"
    chatty.write_text("one: yes")
    reader, writer = os.pipe()
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(chatty), "10"], cwd=ROOT, env=environ, stdout=writer)
    os.close(writer)
    assert os.read(reader, 1)
    os.close(reader)
    assert driver.wait(LIMIT_S) == 0


def test_a_line_without_an_end_is_passed_on_in_pieces(start: Start) -> None:
    up = start("""endless: sh -c 'head -c 20000 /dev/zero | tr "\\0" x; exec sleep 60'""")
    up.until_says("endless", "xxx")
    assert max(map(len, up.lines("endless"))) <= 8_192


def test_the_children_get_redis_the_port_the_carrier_and_the_data_directory(start: Start, tmp_path: Path) -> None:
    up = start("one: sh -c 'env; exec sleep 60'")
    up.until_says("one", "PWD=")
    variables = dict(line.split("=", 1) for line in up.lines("one") if "=" in line)
    assert variables["REDIS_URL"] == f"unix://{tmp_path}/data/run/redis.sock"
    assert variables["TURNSTILE_DATA_DIR"] == str(tmp_path / "data")
    assert variables["CARRIER_URL"] == "http://127.0.0.1:9"
    assert int(variables["PORT"]) > 0


def test_a_command_that_does_not_exist_is_named_and_nothing_stays_behind(start: Start, tmp_path: Path) -> None:
    up = start("one: python listener.py\ntwo: no-such-command")
    assert up.ends() != 0
    assert "process two: 'no-such-command' cannot be started" in up.text
    assert left_behind(tmp_path) == []


def test_an_output_that_nobody_reads_does_not_keep_it_from_stopping(tmp_path: Path, start: Start) -> None:
    reader, writer = os.pipe()
    up = start("one: python listener.py\nnoise: yes")
    up.until_says("noise", "y")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "Procfile"), "10"],
        cwd=ROOT,
        env={**up.environ, "TURNSTILE_DATA_DIR": str(tmp_path / "other")},
        stdout=writer,
    )
    os.close(writer)
    wait_for(lambda: is_full(reader), LIMIT_S, "the pipe is full")
    driver.terminate()
    try:
        assert driver.wait(LIMIT_S) == 0
    finally:
        os.close(reader)


def is_full(reader: int) -> bool:
    """Tells whether at least 32 KB wait to be read."""
    waiting = array.array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, waiting)
    return waiting[0] >= 32_768
