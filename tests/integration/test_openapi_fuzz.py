"""schemathesis holds the running web process against its document, with all of its checks."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import redis
from processes import ROOT, Processes, wait_for
from web_process import Web

FOLDER = ROOT / "tests" / "openapi"
LIMIT_S = 300.0
CASES = 400
WORKERS = "2" if sys.version_info >= (3, 11, 8) else "1"
"""An earlier parser, with which hypothesis describes its lambdas, fails now and then when two threads use it (gh-106905)."""
KEY = "a-key-of-24-characters-x"


@pytest.mark.timeout(400)
def test_schemathesis_finds_nothing(redis_client: redis.Redis, processes: Processes, tmp_path: Path, free_port: int) -> None:
    for file in FOLDER.glob("*.*"):
        shutil.copy(file, tmp_path)
    settings = {"TURNSTILE_API_KEYS": f"ann:{KEY}", "TURNSTILE_MAX_COUNTDOWN_S": "31622400", "TURNSTILE_SAMPLES": "1"}
    settings["TURNSTILE_MAX_QUEUE_AGE_S"] = "1000000"  # nobody delivers
    web = Web(processes, free_port, HOST="127.0.0.1", **settings)
    web.start()
    worker = processes.start("rq", "worker", "entries", "picking", "default", RQ_CONFIG="jobs.rq_config", TURNSTILE_SAMPLES="1")
    wait_for(lambda: redis_client.scard("rq:workers") == 1, 60, "the worker is there")
    run = processes.start(
        "sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path),
        "schemathesis", "run", f"{web.url}/openapi.json", "--header", f"Authorization: Bearer {KEY}",
        "--seed", "1", "--max-examples", "4", "--request-timeout", "30", "--workers", WORKERS, "--no-color", "--warnings", "off",
    )  # fmt: skip
    assert run.ended(LIMIT_S) == 0, run.output
    followed = re.search(r"API Links:\s+(\d+) covered", run.output)
    assert followed is not None and int(followed[1]) >= 1, run.output
    cases = re.search(r"(\d+) generated", run.output)
    assert cases is not None and int(cases[1]) >= CASES, run.output
    assert web.process.runs
    assert worker.runs or worker.ended(1) == 0, "it may have been told to stop, which is one of the calls"
