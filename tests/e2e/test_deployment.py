"""The Procfile's lines run by hand against a given Redis, as every Procfile host does it."""

import base64
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from processes import ROOT, Processes
from servers import Server
from system import System

from jobs import procfile
from jobs.setting_values import hash_api_key
from jobs.settings import PARSERS

Build = Callable[..., System]
KEY = "a-key-of-some-length"
LINES = procfile.parse((ROOT / "Procfile").read_text())


def test_every_process_stops_with_code_0_on_sigterm(build: Build) -> None:
    system = build()
    system.start()
    system.ask("GET", "/readyz")
    system.until(system.order("before-the-stop"), "delivered")
    for name in LINES:
        system.running[name].send(signal.SIGTERM)
        system.running[name].send(signal.SIGTERM)
    assert {name: system.running[name].ended(25) for name in LINES} == dict.fromkeys(LINES, 0)


def test_several_web_processes_behave_like_one(build: Build) -> None:
    system = build(WEB_CONCURRENCY="2")
    system.start()
    system.ask("GET", "/readyz")
    answers = {system.order("one-key") for _ in range(10)}
    assert len(answers) == 1
    entries = [system.ask("POST", "/v1/entries", json={"gate": "north", "event_id": "one"}).json() for _ in range(10)]
    assert sum(entry["accepted"] for entry in entries) == 1 and sum(entry["duplicates"] for entry in entries) == 9
    system.until(answers.pop(), "delivered")
    assert system.stop("web") == 0


def test_a_redis_behind_tls_with_a_self_signed_certificate(
    build: Build, processes: Processes, tmp_path: Path, free_port: int
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subject = ["-subj", "/CN=redis.example", "-days", "2"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject]
    subprocess.run(new, check=True, capture_output=True)
    plain = Server()
    plain.start()
    proxy = processes.start("python", "tests/tls_proxy.py", str(free_port), plain.url.removeprefix("unix://"), certificate, key)
    proxy.prints("listens")
    system = build(REDIS_URL=f"rediss://127.0.0.1:{free_port}/0")
    system.start()
    system.ask("GET", "/readyz")
    assert system.until(system.order("over-tls"), "delivered")["tracking_number"]
    strict = processes.start(
        "python", "-m", "web", REDIS_URL=f"rediss://127.0.0.1:{free_port}/0?ssl_cert_reqs=required", PORT="0"
    )
    strict.prints("web starts")
    strict.prints("certificate verify failed")
    plain.remove()


def test_api_keys_open_the_door_to_others(build: Build) -> None:
    digest = f"sha256${hash_api_key(KEY[::-1])}"
    system = build(TURNSTILE_API_KEYS=f"till-1:{KEY},till-2:{digest}", HOST="0.0.0.0")
    system.start("web")
    system.ask("GET", "/readyz")
    basic = base64.b64encode(f"anybody:{KEY}".encode()).decode()
    good = [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY[::-1]}, {"Authorization": f"Basic {basic}"}]
    bad = [{}, {"Authorization": "Bearer guess"}, {"X-API-Key": ""}, {"Authorization": "Basic %%%"}]
    for path in ("/v1/queues", "/", "/metrics", "/rq/", "/openapi.json"):
        assert [system.http.get(path, headers=headers).status_code for headers in good] == [200] * len(good)
        refused = [system.http.get(path, headers=headers) for headers in bad]
        assert [answer.status_code for answer in refused] == [401] * len(bad)
        assert "Bearer" in refused[0].headers["www-authenticate"]
    assert system.http.get("/livez").status_code == 200


@pytest.mark.parametrize("name", sorted(LINES))
def test_an_environment_that_cannot_work_stops_every_process_and_says_why(processes: Processes, name: str) -> None:
    started = processes.start(*LINES[name].split(), TURNSTILE_LEASE="5", PORT="eighty")
    assert started.ended(20) == 2
    assert "TURNSTILE_LEASE='5': unknown setting; did you mean TURNSTILE_LEASE_S?" in started.output
    assert "PORT='eighty': a whole number is needed" in started.output


def test_without_keys_only_loopback_is_served(processes: Processes) -> None:
    started = processes.start("python", "-m", "web", HOST="0.0.0.0")
    assert started.ended(20) == 2
    assert "HOST='0.0.0.0': only loopback is served until TURNSTILE_API_KEYS or TURNSTILE_KEY_PEPPER is set" in started.output


def test_processes_that_start_before_redis_wait_for_it(build: Build) -> None:
    system = build()
    system.server.kill()
    system.start()
    system.running["courier"].prints("waiting for Redis")
    with httpx.Client(base_url=system.url, timeout=10, trust_env=False):
        system.server.start()
    assert system.until(system.order("patience"), "delivered")["tracking_number"]


def test_a_stock_worker_without_the_json_serializer_is_refused_with_the_fix(processes: Processes) -> None:
    started = processes.start("rq", "worker", "-c", "jobs.rq_config", "-w", "rq.Worker", "default")
    assert started.ended(20) == 2
    assert "-S json" in started.output


def test_what_a_platform_reads_agrees_with_the_procfile() -> None:
    app = json.loads((ROOT / "app.json").read_text())
    assert sorted(app["formation"]) == sorted(LINES)
    assert set(app["env"]) <= set(PARSERS)
    assert re.fullmatch(r"3\.1[1-4]", (ROOT / ".python-version").read_text().strip())
    assert not [name for name in ("Pipfile.lock", "poetry.lock", "uv.lock") if (ROOT / name).exists()]
    readme = (ROOT / "README.md").read_text()
    assert [name for name in PARSERS if f"`{name}`" not in readme] == []
