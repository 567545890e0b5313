"""What an operator is told first."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from jobs.mall.footfall import Summary, Today
from jobs.queue.breaker import BreakerState, Circuit
from jobs.queue.delayed import DelayedState
from jobs.queue.overview import QueueInfo, WorkerInfo
from jobs.setting_values import ApiKey
from jobs.settings import Settings
from web.admission import Kind
from web.banners import Banner, banners
from web.operations import Operations

QUEUE = QueueInfo("packing", 0, 0.0, 0, 0, 0, False, 0.0, 0.0, 0, 0, 0, 0, 0)
WORKER = WorkerInfo("w1", ["packing", "picking"], "idle", 1, "h", None, 0.0, 0.0, 0, 0, 0.0)
CALM = Operations(
    people=Summary(0, 0, 0, 0.0, 0, Today("2026-11-21", 0, 0), {}),
    orders={},
    queues=[QUEUE],
    workers=[WORKER],
    breakers=[],
    dead_letters=0,
    suspended=False,
    scheduler="s1",
    epoch=1,
    heartbeat_age_s=0.5,
    done={},
    delayed=DelayedState(0.2, {}),
    schedules=[],
    memory_bytes=1_000,
    max_memory_bytes=0,
)
KEYED = Settings(api_keys=(ApiKey("c", "0" * 64),))


def shown(operations: Operations, settings: Settings = KEYED, refused: Mapping[Kind, str] | None = None) -> list[Banner]:
    return banners(operations, settings, refused or {})


def queue(**changes: object) -> list[QueueInfo]:
    return [msgspec.structs.replace(QUEUE, **changes)]


def test_when_nothing_is_wrong_nothing_is_said() -> None:
    assert shown(CALM) == []


def test_a_scheduler_that_never_led_or_is_silent_for_more_than_ten_seconds_is_an_alarm() -> None:
    assert shown(replace(CALM, heartbeat_age_s=10.0)) == []
    (late,) = shown(replace(CALM, heartbeat_age_s=34.0))
    assert (late.level, late.title) == ("alarm", "No scheduler leads")
    assert "34 s" in late.advice and "retries and delays stand still" in late.advice
    (never,) = shown(replace(CALM, heartbeat_age_s=None))
    assert "No heartbeat yet" in never.advice


def test_a_scheduler_that_leads_but_is_behind_is_a_warning_and_one_that_does_not_lead_is_the_alarm_alone() -> None:
    assert shown(replace(CALM, delayed=DelayedState(5.0, {}))) == []
    behind = replace(CALM, delayed=DelayedState(75.0, {}))
    (found,) = shown(behind)
    assert (found.level, found.title) == ("warning", "The scheduler is behind")
    assert "1 min 15 s" in found.advice and "s1" in found.advice
    assert [banner.level for banner in shown(replace(behind, heartbeat_age_s=11.0))] == ["alarm"]


def test_jobs_that_no_worker_will_claim_are_an_alarm() -> None:
    assert shown(replace(CALM, workers=[])) == []
    (alone,) = shown(replace(CALM, queues=queue(depth=1_200), workers=[]))
    assert (alone.level, alone.title) == ("alarm", "No worker serves queue packing")
    assert alone.advice.startswith("1,200 jobs wait")
    (suspended,) = shown(replace(CALM, suspended=True))
    assert suspended.title == "All workers are suspended"


def test_a_worker_serves_the_priorities_of_its_queue() -> None:
    for name in ("packing.high", "packing.low"):
        assert shown(replace(CALM, queues=queue(name=name, depth=1))) == []


def test_of_many_queues_without_a_worker_a_few_are_named() -> None:
    many = [msgspec.structs.replace(QUEUE, name=f"q{number}", depth=2, paused=True) for number in range(9)]
    *named, rest, paused = shown(replace(CALM, queues=many))
    assert [banner.title for banner in named] == [f"No worker serves queue q{number}" for number in range(5)]
    assert (rest.title, rest.advice) == ("No worker serves 4 more queues", "8 jobs wait.")
    assert paused.title == "Paused: q0, q1, q2, q3, q4 and 4 more"


def test_an_open_circuit_is_a_warning_and_one_that_is_probed_is_none() -> None:
    carrier = BreakerState("carrier", Circuit.OPEN, 20, 20, 1.0, 11.0, 1, 20, 20, 3)
    (found,) = shown(replace(CALM, breakers=[carrier]))
    assert (found.level, found.title) == ("warning", "The circuit of carrier is open")
    for state in (Circuit.CLOSED, Circuit.HALF_OPEN):
        assert shown(replace(CALM, breakers=[msgspec.structs.replace(carrier, state=state)])) == []


def test_refused_work_is_an_alarm_with_the_reason_that_clients_are_told() -> None:
    said = {kind: f"no {kind} now" for kind in Kind}
    found = shown(CALM, refused=said)
    assert [(banner.level, banner.title) for banner in found] == [
        ("alarm", "New entries are refused"),
        ("alarm", "New orders are refused"),
    ], "background jobs are given up first, and nobody needs to wake up for that"
    assert found[1].advice.startswith("no orders now. ")


def test_the_worst_comes_first_and_notes_last() -> None:
    busy = replace(CALM, queues=queue(paused=True), heartbeat_age_s=None, dead_letters=2)
    found = shown(busy, Settings())
    assert [banner.level for banner in found] == ["alarm", "warning", "note", "note"]
    assert [banner.title for banner in found[1:]] == [
        "2 dead letters wait",
        "Paused: packing",
        "Running without API keys, on loopback only",
    ]
    assert shown(replace(CALM, dead_letters=1))[0].title == "1 dead letter waits"
