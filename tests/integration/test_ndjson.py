"""NDJSON bodies: taken as they come, each line answered for, and safe to send again whatever became of a part."""

import json
from collections.abc import Iterator

import httpx
import pytest
import redis
from web_site import serving

from jobs import keys
from jobs.settings import Settings

KIND = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def lines(number: int, start: int = 0) -> bytes:
    return b"".join(json.dumps({"gate": "n", "event_id": str(i)}).encode() + b"\n" for i in range(start, start + number))


def taken(redis_client: redis.Redis) -> int:
    return int(redis_client.hget(keys.ENTRIES, "accepted") or 0)


@pytest.mark.parametrize("size", [1, 7, 1_000, 65_536])
def test_however_a_body_is_cut_into_chunks_each_line_is_read_once(site: httpx.Client, size: int) -> None:
    body = b"\n" + lines(20) + b"{\n\r\n" + lines(20, start=20).replace(b"\n", b"\r\n").rstrip()
    chunks = (body[start : start + size] for start in range(0, len(body), size))
    answer = site.post("/v1/entries", content=chunks, headers=KIND)
    assert answer.status_code == 202
    found = answer.json()
    assert (found["accepted"], found["duplicates"]) == (40, 0)
    assert [refused["line"] for refused in found["rejected"]] == [22]


def test_bad_lines_are_named_and_the_others_are_taken(site: httpx.Client) -> None:
    body = lines(700) + b'{"gate": "n"}\n' + lines(700, start=350) + b"\xff\n"
    found = site.post("/v1/entries", content=body, headers=KIND).json()
    assert (found["accepted"], found["duplicates"]) == (1_050, 350)
    assert [refused["line"] for refused in found["rejected"]] == [701, 1_402]
    assert found["rejected"][0]["error"].startswith("event_id: ")


def test_a_body_that_turns_out_too_long_says_what_was_taken_and_can_be_sent_again_in_parts(
    site: httpx.Client, redis_client: redis.Redis
) -> None:
    answer = site.post("/v1/entries", content=lines(10_001), headers=KIND)
    assert answer.status_code == 413
    before = taken(redis_client)
    assert f"{before} events of this body are taken" in answer.json()["detail"]
    for start in (0, 5_000, 10_000):
        found = site.post("/v1/entries", content=lines(min(5_000, 10_001 - start), start=start), headers=KIND).json()
        assert found["rejected"] == []
    assert taken(redis_client) == 10_001


def test_a_body_that_is_announced_too_large_is_refused_before_a_line_is_taken(
    site: httpx.Client, redis_client: redis.Redis, settings: Settings
) -> None:
    answer = site.post("/v1/entries", content=lines(9_000) + b" " * settings.max_body_bytes, headers=KIND)
    assert (answer.status_code, taken(redis_client)) == (413, 0)


def test_an_empty_body_is_refused(site: httpx.Client) -> None:
    assert site.post("/v1/entries", content=b"\n \n", headers=KIND).status_code == 400
