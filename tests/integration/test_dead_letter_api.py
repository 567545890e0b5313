"""Dead letters, redrives of many and the audit trail over HTTP, and the same on the command line."""

import getpass
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
import sample_tasks
from hands import Hands
from letters import bury_many
from processes import Processes
from web_site import serving

from jobs import keys
from jobs.__main__ import COMMANDS
from jobs.errors import Permanent
from jobs.queue import audit, dead_letters, samples
from jobs.queue.calling import enqueue
from jobs.queue.job import Call
from jobs.setting_values import ApiKey, hash_api_key
from jobs.settings import Settings
from scheduler.redrives import Redrives

KEY = "a-key-of-24-characters-x"
NOW = 1_763_764_205.0
COMMAND = f"import sys; from {COMMANDS['dead-letters'][0]} import main; sys.exit(main(sys.argv[1:]))"
WHO = f"cli:{getpass.getuser()}"


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(Settings(redis_url=settings.redis_url, api_keys=(ApiKey("ann", hash_api_key(KEY)),))) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


def kill(hands: Hands, *job_ids: str, error: str = "no") -> None:
    """Makes dead letters."""
    for job_id in job_ids:
        enqueue(hands.client, sample_tasks.fail.spec("x", job_id=job_id), now=time.time())
        hands.fail(hands.must_claim("default"), Permanent(error))


def trail(client: redis.Redis) -> list[tuple[str, str, str]]:
    """The audit trail, the newest entry first."""
    return [(entry.what, entry.who, entry.target) for entry in audit.page(client, cursor=None, limit=99)[0]]


# --- over HTTP -------------------------------------------------------------------------------


def test_a_group_is_redriven_as_a_record_that_can_be_watched_and_cancelled(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands
) -> None:
    kill(hands, "a", "b", "c")
    kill(hands, "other", error="stamp")
    group = dead_letters.get(redis_client, "a").group
    answer = site.post("/v1/dead-letters/redrive", json={"group": group, "rate_per_s": 1})
    body = answer.json()
    assert (answer.status_code, body["redriven"], answer.headers["location"]) == (202, 3, f"/v1/redrives/{body['id']}")
    record = site.get(answer.headers["location"]).json()
    assert (record["state"], record["total"], record["done"], record["by"]) == ("open", 3, 0, "ann")
    Redrives(redis_client).tick(record["requested_at"])
    assert site.get("/v1/redrives").json()["redrives"] == [site.get(answer.headers["location"]).json()]
    cancelled = site.post(f"{answer.headers['location']}/cancel").json()
    assert (cancelled["state"], cancelled["done"]) == ("cancelled", 1)
    assert site.post(f"{answer.headers['location']}/cancel").status_code == 409
    assert site.get("/v1/redrives/none").status_code == 404
    assert redis_client.lrange(keys.queue("default"), 0, -1) == [b"a"]
    assert trail(redis_client) == [("cancel redrive", "ann", body["id"]), ("redrive group", "ann", group)]


def test_a_group_is_discarded_as_a_record(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "a", "b")
    kill(hands, "other", error="stamp")
    group = dead_letters.get(redis_client, "a").group
    answer = site.post("/v1/dead-letters/discard", json={"group": group})
    assert (answer.status_code, answer.json()["discarded"]) == (202, 2)
    for _ in range(2):
        Redrives(redis_client).tick(time.time())
    assert site.get(answer.headers["location"]).json()["state"] == "done"
    assert [letter["id"] for letter in site.get("/v1/dead-letters").json()["dead_letters"]] == ["other"]
    assert trail(redis_client) == [("discard group", "ann", group)]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("redrive", {"rate_per_s": 0}),
        ("redrive", {"rate_per_s": 1e12}),
        ("redrive", {"kwargs": []}),
        ("redrive", {"rate": 1}),
        ("discard", {}),
    ],
)
def test_a_request_for_many_that_makes_no_sense_is_refused(
    site: httpx.Client, redis_client: redis.Redis, path: str, body: dict[str, object]
) -> None:
    assert site.post(f"/v1/dead-letters/{path}", json=body).status_code == 422
    assert not redis_client.exists(keys.REDRIVES, keys.AUDIT)


def test_letters_are_searched_and_counted_page_by_page(site: httpx.Client, redis_client: redis.Redis) -> None:
    bury_many(redis_client, [f"j{number:02}" for number in range(30)], NOW, n_groups=2)
    page = site.get("/v1/dead-letters", params={"search": "NO B", "limit": 10}).json()
    assert [letter["id"] for letter in page["dead_letters"]] == [f"j{number:02}" for number in range(29, 10, -2)]
    rest = site.get("/v1/dead-letters", params={"search": "NO B", "limit": 10, "cursor": page["next_cursor"]}).json()
    assert [letter["id"] for letter in rest["dead_letters"]] == ["j09", "j07", "j05", "j03", "j01"]
    assert (page["count"], {group["count"] for group in page["groups"]}) == (30, {15})
    group = page["dead_letters"][0]["group"]
    grouped = site.get("/v1/dead-letters", params={"group": group, "limit": 500}).json()
    assert len(grouped["dead_letters"]) == 15 and "next_cursor" not in grouped


def test_the_audit_trail_is_read_page_by_page(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "a", "b", "c")
    site.post("/v1/dead-letters/a/redrive")
    site.post("/v1/dead-letters/b/discard")
    site.post("/v1/queues/default/pause")
    first = site.get("/v1/audit", params={"limit": 2}).json()
    second = site.get("/v1/audit", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    seen = [(entry["what"], entry["who"], entry["target"]) for entry in first["audit"] + second["audit"]]
    assert seen == [("pause queue", "ann", "default"), ("discard", "ann", "b"), ("redrive", "ann", "a")]
    assert "next_cursor" not in second
    for cursor in ("", "x", "1", "-", "(1-1"):
        assert site.get("/v1/audit", params={"cursor": cursor}).status_code == 422
    site.post("/v1/dead-letters/none/redrive")
    assert len(site.get("/v1/audit").json()["audit"]) == 3, "what was not done is not in the trail"


# --- on the command line ---------------------------------------------------------------------


def run(processes: Processes, *words: str, code: int = 0) -> str:
    process = processes.start(sys.executable, "-c", COMMAND, *words, TURNSTILE_SAMPLES="1")
    assert process.ended(30) == code, process.output
    return process.output


def answer(output: str) -> dict[str, Any]:
    """The JSON that an action printed; the line of the log that says who did it goes to stderr."""
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def test_the_command_shows_letters_groups_and_records(redis_client: redis.Redis, processes: Processes, hands: Hands) -> None:
    kill(hands, "letter-1", "letter-2", error="no street")
    kill(hands, "letter-3", error="no stamp\x1b[2J")
    table = run(processes, "list", "--search", "STREET").splitlines()
    assert table[0].split() == ["ID", "DIED", "TASK", "GROUP", "ERROR", "MESSAGE"]
    assert [line.split()[0] for line in table[1:]] == ["letter-2", "letter-1"]
    assert "\x1b" not in run(processes, "list") + run(processes, "show", "letter-3")
    groups = json.loads(run(processes, "groups", "--json"))
    assert {group["error"]: group["count"] for group in groups} == {"no street": 2, "no stamp\x1b[2J": 1}
    assert run(processes, "groups").splitlines()[1].split()[:3] == [groups[0]["group"], "2", "sample.fail"]
    shown = run(processes, "show", "letter-1")
    assert "no street" in shown and "attempt 1" in shown and '["x"]' in shown
    assert json.loads(run(processes, "--json", "show", "letter-1"))["attempts"][0]["error"] == "no street"
    page = json.loads(run(processes, "list", "--limit", "2", "--json"))
    assert [letter["id"] for letter in page["dead_letters"]] == ["letter-3", "letter-2"]
    assert "letter-1" in run(processes, "list", "--cursor", page["next_cursor"])
    assert trail(redis_client) == []


def test_the_command_redrives_and_discards_one_and_many_and_signs_the_audit_trail(
    redis_client: redis.Redis, processes: Processes, hands: Hands
) -> None:
    kill(hands, "a", "b", "c")
    kill(hands, "d", error="stamp")
    enqueue(redis_client, samples.add.spec("x", 1, job_id="edited"), now=time.time())
    hands.fail(hands.must_claim("default"), Permanent("no number"))
    run(processes, "redrive", "edited", "--args", "[2]", "--kwargs", '{"y": 3}')
    assert hands.must_claim("default").call() == Call(samples.add.path, (2,), {"y": 3})
    run(processes, "discard", "d")
    group = dead_letters.get(redis_client, "a").group
    asked = answer(run(processes, "redrive-all", "--group", group, "--rate", "1", "--json"))
    assert asked["letters"] == 3
    Redrives(redis_client).tick(time.time())
    assert run(processes, "redrives").splitlines()[1].split()[:5] == [asked["redrive"], "open", "redrive", group, "1"]
    run(processes, "cancel", asked["redrive"])
    discarded = answer(run(processes, "discard-group", group, "--json"))
    Redrives(redis_client).tick(time.time())
    assert dead_letters.count(redis_client) == 0
    assert discarded["letters"] == 2
    deeds = [
        ("redrive", WHO, "edited"),
        ("discard", WHO, "d"),
        ("redrive group", WHO, group),
        ("cancel redrive", WHO, asked["redrive"]),
        ("discard group", WHO, group),
    ]
    assert trail(redis_client) == deeds[::-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "none"], "no dead letter with id 'none'"),
        (["redrive", "none"], "no dead letter with id 'none'"),
        (["redrive", "a", "--args", "{}"], "--args"),
        (["redrive", "a", "--kwargs", "[1"], "--kwargs"),
        (["redrive-all", "--rate", "0"], "rate_per_s: a number"),
        (["list", "--cursor", "x"], "cursor: not a cursor"),
        (["list", "--limit", "0"], "a whole number from 1"),
        (["cancel", "none"], "no redrive with id 'none'"),
        ([], "ACTION"),
    ],
)
def test_the_command_says_what_it_cannot_do_and_ends_with_2(
    redis_client: redis.Redis, processes: Processes, words: list[str], said: str
) -> None:
    assert said in run(processes, *words, code=2)
    assert trail(redis_client) == []
