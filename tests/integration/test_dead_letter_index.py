"""The index of dead letters: groups are exact whatever happens at the same time, stock workers' letters get theirs; search."""

import random
import threading
import time

import pytest
import redis
import sample_tasks
from hands import Hands
from letters import bury_many, bury_now, check_index, named

from jobs import connections, keys
from jobs.errors import NotFound, Permanent
from jobs.queue import dead_letters
from jobs.queue.calling import enqueue
from jobs.queue.leaving import DISCARD, REDRIVE
from jobs.queue.script import QUEUE_DIR, script
from scheduler.registries import Registries

NOW = 1_763_764_205.0
ADOPT = script(QUEUE_DIR / "adopt.lua")
FORGET = script(QUEUE_DIR / "forget.lua")


def add(client: redis.Redis, *job_ids: str) -> None:
    for job_id in job_ids:
        enqueue(client, sample_tasks.fail.spec("x", job_id=job_id), now=NOW)


def sizes(client: redis.Redis) -> dict[str, int]:
    return {group.error: group.count for group in dead_letters.groups(client)}


def test_groups_know_their_size_task_and_newest_error(redis_client: redis.Redis) -> None:
    bury_many(redis_client, [f"j{number}" for number in range(30)], NOW, n_groups=3)
    bury_now(redis_client, "j0", "no a at door 17", NOW + 1)
    bury_now(redis_client, "j3", "no a at door 18", NOW + 2)
    check_index(redis_client)
    assert sizes(redis_client) == {"no b": 10, "no c": 10, "no a": 8, "no a at door 18": 2}
    assert {(group.task, group.error_type) for group in dead_letters.groups(redis_client)} == {("sample.fail", "ValueError")}


def test_a_group_that_is_empty_is_gone(redis_client: redis.Redis) -> None:
    add(redis_client, "a", "b")
    bury_now(redis_client, "a", "no a", NOW)
    bury_now(redis_client, "b", "no b", NOW)
    dead_letters.redrive(redis_client, "a")
    assert sizes(redis_client) == {"no b": 1}
    dead_letters.discard(redis_client, "b")
    assert sizes(redis_client) == {}
    assert not redis_client.exists(keys.DEAD, keys.DEAD_GROUPS)


def test_a_letter_that_dies_again_of_another_error_changes_its_group(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    for number, error in enumerate(("no a", "no b", "no b", "no a")):
        bury_now(redis_client, "a", error, NOW + number)
        check_index(redis_client)
        assert sizes(redis_client) == {error: 1}
        assert dead_letters.get(redis_client, "a").died_at == NOW + number


def test_the_index_is_exact_while_burials_redrives_and_discards_race(redis_client: redis.Redis, redis_url: str) -> None:
    ids = [f"j{number}" for number in range(24)]
    add(redis_client, *ids)
    failures: list[BaseException] = []

    def act(seed: int) -> None:
        client, chance = connections.connect(redis_url), random.Random(seed)
        try:
            for _ in range(250):
                job_id, deed = chance.choice(ids), chance.randrange(5)
                try:
                    if deed < 3:
                        bury_now(client, job_id, f"no {'abcd'[deed]}", NOW + chance.random())
                    else:
                        (dead_letters.redrive if deed == 3 else dead_letters.discard)(client, job_id)
                except NotFound:
                    add(client, job_id)
        except BaseException as error:  # noqa: BLE001  shown by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=act, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    check_index(redis_client)
    assert redis_client.zcard(keys.DEAD) == redis_client.zcard(keys.failed("default")) == sum(sizes(redis_client).values()) > 0


def test_a_letter_of_a_stock_worker_gets_a_group_and_what_rq_requeued_or_deleted_loses_its(
    redis_client: redis.Redis, hands: Hands
) -> None:
    add(redis_client, "stock", "requeued", "deleted")
    bury_now(redis_client, "requeued", "no a", NOW)
    bury_now(redis_client, "deleted", "no b", NOW)
    redis_client.zadd(keys.failed("default"), {"stock": "inf", "no job": "inf"})
    redis_client.zrem(keys.failed("default"), "requeued", "deleted")
    redis_client.delete(keys.job("deleted"))
    for after in range(2):
        Registries(redis_client).tick(NOW + 5 + after)
        check_index(redis_client)
        assert [(group.task, group.error_type, group.count) for group in dead_letters.groups(redis_client)] == [
            ("sample.fail", "Unknown", 1)
        ]
    letter = dead_letters.get(redis_client, "stock")
    assert (letter.died_at, letter.group) == (NOW + 5, dead_letters.groups(redis_client)[0].group)
    assert redis_client.zrange(keys.failed("default"), 0, -1) == [b"stock"]
    dead_letters.redrive(redis_client, "stock")
    for _ in range(2):
        hands.fail(hands.must_claim("default"), Permanent("no a"))
    check_index(redis_client)
    assert sizes(redis_client) == {"no a": 2}


def test_letters_of_a_queue_whose_name_rq_deleted_stay_and_the_queue_is_known_again(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ["a", "b"], NOW)
    redis_client.delete(keys.QUEUES)
    Registries(redis_client).tick(NOW)
    check_index(redis_client)
    assert redis_client.zrange(keys.DEAD, 0, -1) == [b"a", b"b"]
    assert redis_client.smembers(keys.QUEUES) == {keys.queue("default").encode()}


def test_scripts_that_come_twice_or_too_late_leave_the_index_true(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    places = [keys.job("a"), keys.failed("default"), keys.results("a")]
    adoption = ["a", repr(NOW), "g", "sample.fail", "E", "no"]
    assert ADOPT(redis_client, places[:2], adoption) == 0, "it has not failed"
    bury_now(redis_client, "a", "no a", NOW)
    assert FORGET(redis_client, [keys.QUEUES], ["a", "b"]) == 1, "only the unknown one"
    assert ADOPT(redis_client, places[:2], adoption) == 0, "it is in already"
    check_index(redis_client)
    assert [REDRIVE(redis_client, places, ["a", "default", repr(NOW), "", "", ""]) for _ in range(2)] == [1, 0]
    assert DISCARD(redis_client, places, ["a", repr(NOW), ""]) == 0, "it was redriven"
    check_index(redis_client)
    bury_now(redis_client, "a", "no b", NOW)
    assert [DISCARD(redis_client, places, ["a", repr(NOW), ""]) for _ in range(2)] == [1, 0]
    assert REDRIVE(redis_client, places, ["a", "default", repr(NOW), "", "", ""]) == 0, "it was discarded"
    check_index(redis_client)


# --- search ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ORDER-7", ["order-7"]),
        ("sample.FAIL", ["order-8", "order-7"]),
        ("straße", ["order-8"]),
        ("STRASSE", ["order-8"]),
        ("permanent", ["order-8", "order-7"]),
        ("no stamp", ["order-7"]),
        ('"x7"', ["order-7"]),
        ("x9", []),
    ],
)
def test_letters_are_found_by_id_task_error_message_and_arguments(
    redis_client: redis.Redis, hands: Hands, search: str, found: list[str]
) -> None:
    for number, error in ((7, "no stamp"), (8, "keine Straße")):
        enqueue(redis_client, sample_tasks.fail.spec(f"x{number}", job_id=f"order-{number}"), now=NOW)
        hands.fail(hands.must_claim("default"), Permanent(error), now=NOW + number)
    letters, cursor = dead_letters.page(redis_client, group=None, cursor=None, limit=9, search=search)
    assert ([letter.id for letter in letters], cursor) == (found, None)


def test_a_search_looks_at_a_bounded_number_of_letters_and_goes_on_from_its_cursor(redis_client: redis.Redis) -> None:
    number = dead_letters.SEARCHED + 700
    bury_many(redis_client, [f"j{place:05}" for place in range(number)], NOW, n_groups=2)
    [group] = [group.group for group in dead_letters.groups(redis_client) if group.error == "no a"]
    assert sizes(redis_client) == {"no a": number // 2, "no b": number // 2}
    first, cursor = dead_letters.page(redis_client, group=None, cursor=None, limit=5, search="j00002")
    assert first == [] and cursor is not None
    second, end = dead_letters.page(redis_client, group=None, cursor=cursor, limit=5, search="j00002")
    assert ([letter.id for letter in second], end) == (["j00002"], None)
    in_group, _ = dead_letters.page(redis_client, group=group, cursor=None, limit=2, search="J0269")
    assert [letter.id for letter in in_group] == ["j02698", "j02696"]
    rest, _ = dead_letters.page(redis_client, group=group, cursor=f"{NOW + 2.696!r}:j02696", limit=9, search="j0269")
    assert [letter.id for letter in rest] == ["j02694", "j02692", "j02690"]


def test_a_page_and_the_groups_cost_no_more_with_many_letters(redis_client: redis.Redis) -> None:
    def commands() -> int:
        before = redis_client.info("stats")["total_commands_processed"]
        assert len(dead_letters.page(redis_client, group=None, cursor=None, limit=20)[0]) == 20
        assert len(dead_letters.groups(redis_client)) == 3
        return int(redis_client.info("stats")["total_commands_processed"] - before)

    bury_many(redis_client, [f"j{number}" for number in range(100)], time.time(), n_groups=3)
    few = commands()
    bury_many(redis_client, [f"k{number}" for number in range(3_000)], time.time(), n_groups=3)
    assert commands() <= few


# --- what changes while it is read, and what others damage ----------------------------------------


def test_a_search_misses_and_repeats_nothing_while_letters_come_and_go(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"j{place:05}" for place in range(900)]
    bury_many(redis_client, ids, NOW)
    taken = [f"j{place:05}" for place in range(880, 900)]
    read = dead_letters._matching

    def meddling(client: redis.Redis, found: list[str], search: str | None) -> list[str]:
        answer = read(client, found, search)
        if taken:  # between two batches twenty newer ones leave
            for job_id in taken:
                dead_letters.redrive(client, job_id)
            taken.clear()
        else:  # and others arrive
            bury_now(client, "j00899", "no a", NOW + 5 + len(answer))
        return answer

    monkeypatch.setattr(dead_letters, "_matching", meddling)
    found, _cursor = dead_letters.page(redis_client, group=None, cursor=None, limit=2_000, search="sample.fail")
    assert [letter.id for letter in found if letter.id not in ids[880:]] == ids[:880][::-1]
    assert len({letter.id for letter in found}) == len(found)


def test_pages_of_letters_that_died_at_one_instant_are_read_in_few_steps(redis_client: redis.Redis) -> None:
    bury_many(redis_client, [f"j{place:05}" for place in range(700)], NOW)
    redis_client.zadd(keys.DEAD, {f"j{place:05}": NOW for place in range(700)})
    seen, cursor = [], None
    while True:
        letters, cursor = dead_letters.page(redis_client, group=None, cursor=cursor, limit=60)
        seen += [letter.id for letter in letters]
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True) and len(seen) == 700


def test_of_many_groups_the_largest_are_listed(redis_client: redis.Redis) -> None:
    for number in range(dead_letters.GROUPS_SHOWN + 20):
        add(redis_client, f"j{number}")
        bury_now(redis_client, f"j{number}", f"no {named(number)}", NOW)
    for number in range(3):
        add(redis_client, f"k{number}")
        bury_now(redis_client, f"k{number}", "no b", NOW)
    found = dead_letters.groups(redis_client)
    assert len(found) == dead_letters.GROUPS_SHOWN
    assert (found[0].error, found[0].count, found[1].count) == ("no b", 4, 1)
    check_index(redis_client)


@pytest.mark.parametrize("lost", ["jobs", "groups", "sizes", "group", "all", "failed"])
def test_an_index_that_somebody_damaged_is_mended(redis_client: redis.Redis, lost: str) -> None:
    ids = [f"j{place:03}" for place in range(300)]
    bury_many(redis_client, ids, NOW, n_groups=3)
    kept, expected = ids, {"no a": 100, "no b": 100, "no c": 100}
    group = dead_letters.groups(redis_client)[0].group
    match lost:
        case "jobs":
            redis_client.delete(*(keys.job(job_id) for job_id in ids[:30]))
            kept, expected = ids[30:], dict.fromkeys(expected, 90)
        case "groups":
            redis_client.delete(keys.DEAD_GROUPS)
        case "sizes":
            redis_client.delete(keys.DEAD_SIZES)
        case "group":
            redis_client.delete(keys.dead_group(group))
        case "all":
            redis_client.delete(keys.DEAD)
        case "failed":
            redis_client.zrem(keys.failed("default"), *ids[:30])
            kept, expected = ids[30:], dict.fromkeys(expected, 90)
    duty = Registries(redis_client)
    for after in range(8):
        duty.tick(NOW + 5 + after)
    check_index(redis_client)
    assert sizes(redis_client) == expected
    assert [job_id.decode() for job_id in redis_client.zrange(keys.DEAD, 0, -1)] == kept, "in the order of their deaths"
    assert redis_client.zcard(keys.failed("default")) == len(kept)
    assert dead_letters.get(redis_client, kept[7]).died_at == NOW + int(kept[7][1:]) / 1000


def test_a_letter_that_rq_requeued_and_a_stock_worker_failed_again_has_its_new_death(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    bury_now(redis_client, "a", "no a", NOW)
    redis_client.zrem(keys.failed("default"), "a")
    Registries(redis_client).tick(NOW + 5)
    redis_client.zadd(keys.failed("default"), {"a": "inf"})
    Registries(redis_client).tick(NOW + 50)
    letter = dead_letters.get(redis_client, "a")
    assert (letter.died_at, letter.error_type) == (NOW + 50, "Unknown")
    check_index(redis_client)


def test_a_name_that_is_no_text_and_a_job_that_is_none_break_neither_a_list_nor_the_mending(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ["a", "b", "c"], NOW)
    redis_client.zadd(keys.failed("default"), {b"\xff\xfe": 1})
    redis_client.delete(keys.job("a"))
    redis_client.set(keys.job("a"), "planted")
    redis_client.hset(keys.job("b"), mapping={"died_at": "inf", "redrives": "many", "attempts": "[[", "data": b"\xff"})
    add(redis_client, "stock")
    redis_client.zadd(keys.failed("default"), {"stock": "inf"})
    for after in range(3):
        Registries(redis_client).tick(NOW + after)
    for search in (None, "sample"):
        letters, _ = dead_letters.page(redis_client, group=None, cursor=None, limit=9, search=search)
        assert {letter.id for letter in letters} == {"b", "c", "stock"}
    assert {letter.died_at for letter in letters if letter.id == "b"} == {0.0}
    with pytest.raises(NotFound):
        dead_letters.get(redis_client, "a")
