"""Dead letters: listed page by page and by group; redriven or discarded once, the order they belong to along with them."""

import time
from typing import Any

import pytest
import redis
import sample_tasks
from hands import Hands
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import InvalidField, NotFound, Permanent
from jobs.queue import audit, dead_letters
from jobs.queue.calling import enqueue
from jobs.queue.job import Call
from jobs.queue.script import QUEUE_DIR, script

REDRIVE = script(QUEUE_DIR / "redrive.lua")
DISCARD = script(QUEUE_DIR / "discard.lua")
NOW = 1_763_764_205.0


def kill(hands: Hands, job_id: str, error: str = "no", died_at: float | None = None, **options: Any) -> None:
    """Makes a job and a dead letter of it."""
    enqueue(hands.client, sample_tasks.fail.spec("x", job_id=job_id, **options), now=NOW)
    hands.fail(hands.must_claim(options.get("queue", "default")), Permanent(error), now=died_at)


def ids(client: redis.Redis, limit: int = 100, group: str | None = None) -> list[list[str]]:
    """The ids on each page, from the first to the last."""
    pages, cursor = [], None
    while True:
        page, cursor = dead_letters.page(client, group=group, cursor=cursor, limit=limit)
        if page:
            pages.append([letter.id for letter in page])
        if cursor is None:
            return pages


# --- reading ---------------------------------------------------------------------------------


def test_a_dead_letter_says_what_it_was_and_why_it_died(redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "j1", "no such street", died_at=NOW)
    letter = dead_letters.get(redis_client, "j1")
    assert (letter.id, letter.task, letter.queue, letter.args, letter.kwargs) == ("j1", "sample.fail", "default", ["x"], {})
    assert (letter.error_type, letter.error, letter.died_at, letter.redrives) == ("Permanent", "no such street", NOW, 0)
    assert [attempt.error for attempt in letter.attempts] == ["no such street"]
    assert dead_letters.count(redis_client) == 1


@pytest.mark.parametrize("job_id", ["none", "alive"])
def test_what_is_no_dead_letter_is_not_found(redis_client: redis.Redis, hands: Hands, job_id: str) -> None:
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="alive"), now=NOW)
    for call in (dead_letters.get, dead_letters.redrive, dead_letters.discard):
        before = snapshot(redis_client)
        with pytest.raises(NotFound, match=f"no dead letter with id '{job_id}'"):
            call(redis_client, job_id)
        assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_show_each_dead_letter_once_the_newest_first_also_when_they_died_at_one_instant(
    redis_client: redis.Redis, hands: Hands, limit: int
) -> None:
    for number, died_at in enumerate([NOW, NOW + 1, NOW + 1, NOW + 1, NOW + 2, NOW + 2, NOW]):
        kill(hands, f"j{number}", died_at=died_at)
    pages = ids(redis_client, limit)
    assert [job_id for page in pages for job_id in page] == ["j5", "j4", "j3", "j2", "j1", "j6", "j0"]
    assert all(len(page) == limit for page in pages[:-1])


def test_a_dead_letter_that_leaves_between_two_pages_shifts_no_other(redis_client: redis.Redis, hands: Hands) -> None:
    for number in range(6):
        kill(hands, f"j{number}", died_at=NOW + number)
    page, cursor = dead_letters.page(redis_client, group=None, cursor=None, limit=2)
    dead_letters.discard(redis_client, "j5")
    dead_letters.discard(redis_client, "j3")
    rest, _ = dead_letters.page(redis_client, group=None, cursor=cursor, limit=10)
    assert [letter.id for letter in [*page, *rest]] == ["j5", "j4", "j2", "j1", "j0"]


@pytest.mark.parametrize("cursor", ["", "x", "x:j1", "nan", "nan:j1", ":"])
def test_a_cursor_that_is_none_is_refused(redis_client: redis.Redis, cursor: str) -> None:
    with pytest.raises(InvalidField, match="cursor: not a cursor of this list"):
        dead_letters.page(redis_client, group=None, cursor=cursor, limit=1)


def test_dead_letters_are_grouped_by_task_and_error(redis_client: redis.Redis, hands: Hands) -> None:
    for number in range(3):
        kill(hands, f"a{number}", f"order {number} has no street", died_at=NOW + number)
    kill(hands, "b", "no stamp")
    first, second = dead_letters.groups(redis_client)
    assert (first.task, first.error_type, first.count, second.count) == ("sample.fail", "Permanent", 3, 1)
    assert first.error in {f"order {number} has no street" for number in range(3)}
    assert ids(redis_client, 2, group=first.group) == [["a2", "a1"], ["a0"]]
    assert ids(redis_client, group=second.group) == [["b"]]
    assert ids(redis_client, group="none") == []


def test_an_entry_whose_job_is_gone_or_unreadable_spoils_no_list(redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "good", died_at=NOW)
    kill(hands, "unreadable", died_at=NOW + 1)
    redis_client.hset("rq:job:unreadable", mapping={"data": b"\x80\x04", "attempts": "{", "error": b"\xff"})
    redis_client.zadd(keys.DEAD, {"gone": NOW + 2})
    assert ids(redis_client, 1) == [["unreadable"], ["good"]]
    letter = dead_letters.get(redis_client, "unreadable")
    assert (letter.args, letter.kwargs, letter.attempts) == (None, None, [])
    assert [(group.task, group.count) for group in dead_letters.groups(redis_client)] == [("sample.fail", 2)]
    with pytest.raises(NotFound):
        dead_letters.get(redis_client, "gone")


# --- redrive ---------------------------------------------------------------------------------


def test_a_redriven_job_is_back_on_its_queue_with_a_fresh_budget_and_its_history(redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "j1", "no such street")
    before = snapshot(redis_client)
    dead_letters.redrive(redis_client, "j1")
    after = snapshot(redis_client)
    job = after["rq:job:j1"]
    assert (job["status"], job["failures"], job["redrives"], job["attempts"]) == (
        "queued",
        "0",
        "1",
        before["rq:job:j1"]["attempts"],
    )
    assert not {"crashes", "died_at", "acked", "ended_at", "exc_info"} & set(job)
    assert after["rq:queue:default"] == ["j1"]
    assert not {"rq:failed:default", "turnstile:dead", "rq:results:j1", "rq:job:j1!ttl"} & set(after)
    claim = hands.must_claim("default")
    assert claim.attempt == 1
    assert hands.finish(claim) == 1


def test_a_second_redrive_finds_nothing_and_writes_nothing(redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "j1")
    dead_letters.redrive(redis_client, "j1")
    before = snapshot(redis_client)
    for call in (dead_letters.redrive, dead_letters.discard):
        with pytest.raises(NotFound):
            call(redis_client, "j1")
    places = ["rq:job:j1", keys.failed("default"), "rq:results:j1"]
    assert REDRIVE(redis_client, places, ["j1", "default", NOW, "", "", ""]) == 0
    assert DISCARD(redis_client, places, ["j1", NOW, ""]) == 0
    assert changes(before, snapshot(redis_client)) == {}


def test_a_job_can_be_redriven_with_other_arguments_that_its_task_takes(redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "j1")
    for args, kwargs in (([], None), (["a", "b"], None), (None, {"cause": 1})):
        with pytest.raises(InvalidField, match=r"args: sample\.fail"):
            dead_letters.redrive(redis_client, "j1", args=args, kwargs=kwargs)
    assert dead_letters.count(redis_client) == 1
    dead_letters.redrive(redis_client, "j1", args=[], kwargs={"reason": "new"})
    assert hands.must_claim("default").call() == Call("sample_tasks.fail", (), {"reason": "new"})


def test_the_arguments_of_a_job_that_belongs_to_a_state_or_that_nobody_knows_cannot_be_changed(
    redis_client: redis.Redis, hands: Hands
) -> None:
    enqueue(redis_client, sample_tasks.own.spec(job_id="owned"), now=NOW)
    hands.fail(hands.must_claim("default"), Permanent("no"))
    kill(hands, "unknown")
    redis_client.hset("rq:job:unknown", "data", '["os.system", null, ["true"], {}]')
    for job_id in ("owned", "unknown"):
        with pytest.raises(InvalidField, match="args: "):
            dead_letters.redrive(redis_client, job_id, args=[])


def test_who_redrove_or_discarded_is_in_the_job_and_in_the_audit_trail(redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "j1")
    kill(hands, "j2")
    dead_letters.redrive(redis_client, "j1", by="ann")
    dead_letters.discard(redis_client, "j2", by="bob")
    job = redis_client.hgetall("rq:job:j1")
    assert job[b"redriven_by"] == b"ann" and abs(float(job[b"redriven_at"]) - time.time()) < 60
    trail, _ = audit.page(redis_client, cursor=None, limit=9)
    assert [(entry.what, entry.who, entry.target) for entry in trail] == [("discard", "bob", "j2"), ("redrive", "ann", "j1")]


# --- discard ---------------------------------------------------------------------------------


def test_a_discarded_job_leaves_nothing_behind(redis_client: redis.Redis, hands: Hands) -> None:
    kill(hands, "kept", died_at=NOW)
    kept = snapshot(redis_client)
    kill(hands, "j1", died_at=NOW)
    dead_letters.discard(redis_client, "j1")
    after = snapshot(redis_client)
    assert {key for key in changes(kept, after) if "stats" not in key} == {"turnstile:totals:default", "turnstile:bell:default"}
    with pytest.raises(NotFound):
        dead_letters.discard(redis_client, "j1")
    assert changes(after, snapshot(redis_client)) == {}
