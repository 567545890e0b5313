"""Entries: each event counted once, accepted = counted + pending at every instant, whatever is repeated or killed."""

import asyncio
import itertools
import json
import time
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import redis
from asking import Ask
from hands import Hands
from killing import Killer
from snapshots import changes, snapshot

from jobs import keys
from jobs.connections import connect_async
from jobs.mall import alerts, counting, entries, footfall, reconcile
from jobs.mall.footfall import Summary, Today, Totals
from jobs.opening import OpeningHours
from jobs.settings import Settings

NOW = datetime(2025, 11, 21, 22, 30, 5, tzinfo=UTC).timestamp()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
Send = Callable[..., list[bool]]


@pytest.fixture
def send(redis_client: redis.Redis, ask: Ask, settings: Settings) -> Send:
    """Sends events in one request; says of each whether it was new."""

    def sent(*events: dict[str, Any], now: float = NOW) -> list[bool]:
        parsed = [
            entries.parse(json.dumps({"gate": "north", **event}).encode(), settings=settings, zone=BERLIN, now=now)
            for event in events
        ]
        return ask(partial(entries.ingest, entries=parsed, settings=settings, now=now))

    return sent


@pytest.fixture
def summary(ask: Ask) -> Callable[[], Summary]:
    """The summary as the API shows it, which must add up whenever it is asked for."""

    def shown(now: float = NOW) -> Summary:
        found = ask(partial(footfall.summary, zone=BERLIN, now=now))
        assert found.accepted == found.counted + found.pending
        return found

    return shown


def events(number: int, start: int = 0) -> Iterator[dict[str, Any]]:
    return ({"event_id": f"e{index}"} for index in range(start, start + number))


# --- taking in -------------------------------------------------------------------------------


def test_a_new_event_waits_in_the_buffer_and_a_count_job_is_due(redis_client: redis.Redis, send: Send) -> None:
    assert send({"event_id": "e1", "direction": "out", "count": 3}) == [True]
    after = snapshot(redis_client)
    assert len(after.pop("turnstile:entries:windows")) == 1
    job_id = after.pop("turnstile:entries:job")
    [seen] = (key for key in after if key.startswith(keys.SEEN_IDS_PREFIX) and not key.endswith("!ttl"))
    assert len(after[seen]) == 1
    assert after.pop(f"rq:job:{job_id}")["status"] == "queued"
    assert {key: value for key, value in after.items() if ":stats:" not in key} == {
        "turnstile:entries": {"accepted": "1"},
        "turnstile:entries:buffer": [f"{NOW!r}|1|3|2025-11-21T22:30|2025-11-21|1|out|north"],
        seen: after[seen],
        f"{seen}!ttl": True,
        "rq:queue:entries": [job_id],
        "rq:queues": {"rq:queue:entries"},
        "turnstile:bell:entries": ["1"],
        "turnstile:totals:entries": {"enqueued": "1"},
    }


@pytest.mark.parametrize("event", [{"event_id": "e1"}, {"sensor": "s", "seq": 0}, {"sensor": "s", "seq": 2**53}])
def test_the_same_event_again_is_a_duplicate_and_writes_nothing(
    redis_client: redis.Redis, send: Send, event: dict[str, Any]
) -> None:
    assert send(event, event) == [True, False]
    before = snapshot(redis_client)
    assert send(event) == [False]
    assert send({**event, "gate": "south", "count": 9}) == [False], "the identity decides, not the content"
    assert changes(before, snapshot(redis_client)) == {}


def test_events_of_other_identities_are_no_duplicates(send: Send) -> None:
    assert send({"event_id": "e1"}, {"event_id": "E1"}, {"event_id": "e1 "}, {"event_id": "s0|s"}) == [True] * 4
    assert send(*({"sensor": "s", "seq": seq} for seq in (0, 1, 1_023, 1_024, 65_536, 2**16 - 1))) == [True] * 6
    assert send({"sensor": "0|s", "seq": 0}, {"sensor": "S", "seq": 0}, {"event_id": "e0"}) == [True] * 3


def test_what_was_seen_is_remembered_longer_than_an_event_may_be_old(
    redis_client: redis.Redis, send: Send, settings: Settings
) -> None:
    send({"event_id": "e1"}, {"sensor": "s", "seq": 5})
    for key in redis_client.scan_iter(match="turnstile:seen:*"):
        assert redis_client.ttl(key) > settings.entry_max_age_s + settings.entry_max_ahead_s + 3_000


def test_later_events_pile_up_behind_the_count_job_that_is_due(redis_client: redis.Redis, send: Send) -> None:
    for number in range(5):
        send({"event_id": f"e{number}"})
    after = snapshot(redis_client)
    assert (len(after["rq:queue:entries"]), len(after["turnstile:entries:buffer"])) == (1, 5)


def test_ten_thousand_events_are_taken_in_at_once(
    redis_client: redis.Redis, hands: Hands, send: Send, summary: Callable[[], Summary]
) -> None:
    many = list(events(entries.MAX_EVENTS))
    assert all(send(*many))
    assert not any(send(*many))
    assert summary().pending == entries.MAX_EVENTS
    hands.work_off("entries")
    assert (summary().counted, summary().today.in_) == (entries.MAX_EVENTS, entries.MAX_EVENTS)


def test_equal_requests_at_once_count_each_event_once(redis_url: str, redis_client: redis.Redis, settings: Settings) -> None:
    parsed = [
        entries.parse(json.dumps({"gate": "n", **event}).encode(), settings=settings, zone=BERLIN, now=NOW)
        for event in events(50)
    ]

    async def all_at_once() -> list[list[bool]]:
        client = connect_async(redis_url)
        try:
            return await asyncio.gather(*(entries.ingest(client, parsed, settings=settings, now=NOW) for _ in range(20)))
        finally:
            await client.aclose()

    assert sum(sum(answer) for answer in asyncio.run(all_at_once())) == 50
    assert footfall.events_in(redis_client.lrange(keys.ENTRIES_BUFFER, 0, -1)) == 50


# --- counting --------------------------------------------------------------------------------


def test_counting_sums_by_minute_and_by_gate_and_empties_the_buffer(
    redis_client: redis.Redis, hands: Hands, send: Send, summary: Callable[[], Summary]
) -> None:
    send(
        {"event_id": "e1", "count": 3},
        {"event_id": "e2", "at": "2025-11-21T22:30:59Z"},
        {"event_id": "e3", "direction": "out", "count": 2, "gate": "süd: 2"},
        {"event_id": "e4", "at": "2025-11-21T23:29:00+01:00"},
        {"event_id": "e5", "at": "2025-11-21T00:10:00+01:00"},
    )
    claim = hands.must_claim("entries")
    assert hands.run(claim) == 5
    after = snapshot(redis_client)
    assert {key: value for key, value in after.items() if "footfall" in key or "gates" in key or ":entries" in key} == {
        "rq:wip:entries": after["rq:wip:entries"],
        "turnstile:bell:entries": ["1"],
        "turnstile:totals:entries": {"enqueued": "1"},
        "turnstile:entries": {"accepted": "5", "counted": "5"},
        "turnstile:entries:windows": after["turnstile:entries:windows"],
        "turnstile:footfall:dirty": {"2025-11-20", "2025-11-21"},
        "turnstile:footfall:minute:2025-11-20": {"23:10|in|north": "1"},
        "turnstile:footfall:minute:2025-11-21": {"22:30|in|north": "4", "22:30|out|süd: 2": "2", "22:29|in|north": "1"},
        "turnstile:gates:2025-11-21": {"in|north": "6", "out|süd: 2": "2"},
        "turnstile:gates:2025-11-21!ttl": True,
    } | {key: value for key, value in after.items() if ":stats:entries" in key}
    found = summary()
    assert found == Summary(5, 5, 0, 0.0, 4, Today("2025-11-21", 6, 2), {"north": Totals(6, 0), "süd: 2": Totals(0, 2)})


def test_a_count_job_that_runs_again_counts_nothing_again(redis_client: redis.Redis, hands: Hands, send: Send) -> None:
    send(*events(3))
    claim = hands.must_claim("entries")
    assert hands.run(claim) == 3
    before = snapshot(redis_client)
    assert hands.run(claim) == 0
    assert changes(before, snapshot(redis_client)) == {}


def test_a_count_job_that_is_not_due_counts_nothing(redis_client: redis.Redis, hands: Hands, send: Send) -> None:
    send(*events(3))
    claim = hands.must_claim("entries")
    redis_client.set(keys.ENTRIES_JOB, "another")
    before = snapshot(redis_client)
    assert hands.run(claim) == 0
    assert changes(before, snapshot(redis_client)) == {}


def test_events_that_come_while_a_count_job_runs_are_counted_by_it_or_by_the_next(
    redis_client: redis.Redis, hands: Hands, send: Send, summary: Callable[[], Summary]
) -> None:
    send(*events(3))
    claim = hands.must_claim("entries")
    send(*events(3, start=3))
    assert hands.run(claim) == 6
    send(*events(2, start=6))
    assert len(snapshot(redis_client)["rq:queue:entries"]) == 1, "the buffer was empty: a new job is due"
    hands.finish(claim)
    hands.work_off("entries")
    assert summary().counted == 8


def test_a_count_job_hands_over_after_some_slices(
    redis_client: redis.Redis, hands: Hands, send: Send, monkeypatch: pytest.MonkeyPatch, summary: Callable[[], Summary]
) -> None:
    monkeypatch.setattr(counting, "SLICES", 2)
    monkeypatch.setattr(counting, "current", lambda: Settings(count_batch=3))
    for event in events(10):
        send(event)
    claim = hands.must_claim("entries")
    assert hands.run(claim) == 6
    after = snapshot(redis_client)
    assert after["rq:queue:entries"] == [after["turnstile:entries:job"]] != [claim.id]
    assert (summary().counted, summary().pending) == (6, 4)
    assert hands.run(claim) == 0
    assert changes(after, snapshot(redis_client)) == {}
    hands.work_off("entries")
    assert (summary().counted, redis_client.exists(keys.ENTRIES_JOB)) == (10, 0)


def test_the_lag_is_the_age_of_the_oldest_event_that_waits(send: Send, ask: Ask) -> None:
    send({"event_id": "e1"}, now=NOW - 7)
    send({"event_id": "e2"}, now=NOW - 2)
    assert ask(partial(footfall.summary, zone=BERLIN, now=NOW)).lag_s == 7.0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_event_is_counted_once_whichever_round_trip_the_counter_is_killed_at(
    redis_client: redis.Redis,
    hands: Hands,
    send: Send,
    killer: Killer,
    monkeypatch: pytest.MonkeyPatch,
    summary: Callable[[], Summary],
    after: bool,
) -> None:
    monkeypatch.setattr(counting, "SLICES", 2)
    monkeypatch.setattr(counting, "current", lambda: Settings(count_batch=3))
    for round_trip in itertools.count():
        redis_client.flushall()
        for event in events(8):
            send(event)
        with killer.at(round_trip, after=after):
            hands.work_off("entries")
        summary()
        send(*events(4, start=6))
        summary()
        for _ in range(3):
            hands.reclaim("entries")
            reconcile.reconcile(redis_client, now=time.time() + 100, after_s=1.0)
            hands.work_off("entries")
        found = summary()
        assert (found.accepted, found.counted, found.pending, found.today.in_) == (10, 10, 0, 10), round_trip
        assert redis_client.hget("turnstile:footfall:minute:2025-11-21", "22:30|in|north") == b"10"
        if not killer.struck:
            break
    assert round_trip > 5


# --- alerts ----------------------------------------------------------------------------------


def told(client: redis.Redis) -> list[tuple[str, str, int]]:
    return [(alert.kind, alert.gate, alert.people) for alert in reversed(alerts.page(client, cursor=None, limit=100)[0])]


def test_too_many_people_are_an_alert_once_until_it_has_emptied_a_little(
    redis_client: redis.Redis, hands: Hands, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "current", lambda: Settings(timezone="UTC", capacity=(("", 100), ("north", 40))))
    now = time.time()

    def pass_through(number: int, people: int, direction: str, gate: str) -> None:
        send({"event_id": f"e{number}", "count": people, "direction": direction, "gate": gate}, now=now)
        hands.work_off("entries")

    today = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    monkeypatch.setattr(entries, "_moment", lambda *_: f"{today}T10:00|{today}|1")
    pass_through(1, 40, "in", "north")
    assert told(redis_client) == []
    pass_through(2, 1, "in", "north")
    pass_through(3, 60, "in", "south")
    pass_through(4, 1, "in", "south")
    assert told(redis_client) == [("over", "north", 41), ("over", "", 101)]
    pass_through(5, 3, "out", "south")
    pass_through(6, 3, "in", "south")
    assert len(told(redis_client)) == 2, "98 is not yet far enough below 100"
    pass_through(7, 7, "out", "north")
    assert told(redis_client)[2:] == [("below", "", 95), ("below", "north", 34)]
    assert redis_client.hget(keys.ENTRIES, "alerts") == b"4"


def test_the_first_entry_of_an_hour_in_which_the_mall_is_closed_is_an_alert(
    redis_client: redis.Redis, hands: Hands, ask: Ask
) -> None:
    closed = Settings(opening_hours=OpeningHours("fri 09:00-21:00"))

    def enter(*events: dict[str, Any]) -> None:
        parsed = [
            entries.parse(json.dumps({"gate": "n", **event}).encode(), settings=closed, zone=BERLIN, now=NOW) for event in events
        ]
        ask(partial(entries.ingest, entries=parsed, settings=closed, now=NOW))
        hands.work_off("entries")

    enter({"event_id": "1", "at": "2025-11-21T20:59:00+01:00"}, {"event_id": "2", "direction": "out"})
    assert told(redis_client) == []
    enter({"event_id": "3", "count": 2}, {"event_id": "4", "at": "2025-11-21T22:10:00+01:00"})
    enter({"event_id": "5"})
    assert sorted(told(redis_client)) == [("closed", "n", 1), ("closed", "n", 2)], "one for each hour"


@pytest.mark.parametrize(("before_s", "after_s"), [(86_400, 3_600), (3_600, 86_400), (86_400, 86_399)])
def test_an_event_sent_again_after_the_settings_changed_is_still_a_duplicate(
    redis_client: redis.Redis, ask: Ask, before_s: float, after_s: float
) -> None:
    identities: list[dict[str, Any]] = [{"event_id": "e"}, {"sensor": "s", "seq": 7}]

    def sent(max_age_s: float, now: float) -> list[bool]:
        settings = Settings(entry_max_age_s=max_age_s)
        bodies = [json.dumps({"gate": "north", **identity}).encode() for identity in identities]
        parsed = [entries.parse(body, settings=settings, zone=BERLIN, now=now) for body in bodies]
        return ask(partial(entries.ingest, entries=parsed, settings=settings, now=now))

    assert sent(before_s, NOW) == [True, True]
    assert sent(after_s, NOW + 3_000) == [False, False]
    assert sent(before_s, NOW + 3_500) == [False, False], "by a process that has not been restarted yet"


def test_windows_that_are_forgotten_are_no_longer_looked_into(redis_client: redis.Redis, send: Send) -> None:
    for day in range(9):
        assert send({"event_id": f"e{day}"}, now=NOW + day * 86_400) == [True]
    assert redis_client.zcard(keys.ENTRIES_WINDOWS) <= 3


def test_events_are_told_apart_across_the_change_of_windows(send: Send, settings: Settings) -> None:
    width = settings.entry_max_age_s + settings.entry_max_ahead_s + entries.SEEN_MARGIN_S
    edge = (NOW // width + 1) * width
    for identity in ({"event_id": "e"}, {"sensor": "s", "seq": 7}):
        assert send(identity, now=edge - 1) == [True]
        assert send(identity, now=edge + 1) == [False], "noted in the window before"
        assert send(identity, now=edge + width - 1) == [False]
    for identity in ({"event_id": "f"}, {"sensor": "s", "seq": 8}):
        assert send(identity, now=edge + 1) == [True], "by a process whose clock is ahead"
        assert send(identity, now=edge - 1) == [False]
        assert send(identity, now=edge + 2 * width + 1) == [True], "forgotten two windows later: a counter that wrapped goes on"
