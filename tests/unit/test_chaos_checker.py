"""The judge of the fault harness: histories made by hand, one for each way in which something can be wrong."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checker import check
from history import History, Kind, Op, Record, Snap, read
from hypothesis import given
from hypothesis import strategies as st
from ledger import Ledger
from msgspec import structs
from observed import Final, Fire, JobEnd, OrderEnd
from story import CELL, MINUTE, PATH, Story, some_of_everything
from verdict import judge

from jobs.mall.orders import Status
from jobs.queue.canvas_store import CanvasView


@pytest.fixture
def story() -> Story:
    """A run in which all is well."""
    return some_of_everything()


def test_a_run_in_which_all_is_well_has_no_violation(story: Story) -> None:
    assert story.judged() == []
    assert judge(story.records, story.final).exit_code == 0


def _refused_good_order(s: Story) -> None:
    s.tell(Kind.INVOKE, Op.ORDER, "key-7")
    s.tell(Kind.FAIL, Op.ORDER, "key-7", status=422)


def _no_answer(s: Story) -> None:
    s.tell(Kind.INVOKE, Op.ORDER, "key-7")
    s.tell(Kind.INFO, Op.ORDER, "key-7", status=503)


def _leap(s: Story) -> None:
    s.order(7, ("accepted", "delivering", "delivered"))
    s.final.stock["sku"]["on_hand"] -= 2


def _no_delay(s: Story) -> None:
    s.order(7, ("accepted", "cancelled"), delay_s=1.0)
    s.asked(Op.CANCEL, "order-7")


def _early(s: Story) -> None:
    s.order(7, ("scheduled", "accepted", "cancelled"), delay_s=1.5)
    s.asked(Op.CANCEL, "order-7")


def _cancel_refused_too_soon(s: Story) -> None:
    s.tell(Kind.INVOKE, Op.CANCEL, "order-7")
    s.tell(Kind.FAIL, Op.CANCEL, "order-7", status=409)
    s.order(7)
    s.final.stock["sku"]["on_hand"] -= 2


def _faults_at(s: Story, role: str) -> None:
    s.records = [structs.replace(record, role=role) if record.kind is Kind.FAULT else record for record in s.records]


def _cancel_of_a_lost_order(s: Story) -> None:
    s.tell(Kind.INVOKE, Op.CANCEL, "order-1")
    s.tell(Kind.FAIL, Op.CANCEL, "order-1", status=404)


def _lost_events(s: Story) -> None:
    s.final.accepted_events = s.final.counted_events = 9


def _connections_left(s: Story) -> None:
    s.final.connections, s.final.max_connections = 201, 200


SPOILT: dict[str, tuple[Callable[[Story], object], str]] = {
    "lost order": (lambda s: s.final.orders.pop("order-4"), "lost"),
    "open order": (lambda s: s.replace("order-4", status="picking", listed=("picking",)), "lost"),
    "two orders": (lambda s: s.final.orders.update({"order-9": s.final.orders["order-4"]}), "duplicated"),
    "nobodys order": (lambda s: s.replace("order-4", reference="stranger"), "unexpected"),
    "refused order": (lambda s: s.replace("order-4", reference="key-6"), "unexpected"),
    "taken order": (lambda s: s.asked(Op.ORDER, "key-7", {"answer": "order-4"}, refusable=True), "unexpected"),
    "refused good order": (_refused_good_order, "unexpected"),
    "no answer": (_no_answer, "unanswered"),
    "leap": (_leap, "I2"),
    "no delay": (_no_delay, "I2"),
    "begun early": (_early, "I2"),
    "order of another request": (lambda s: s.asked(Op.ORDER, "key-7", {"answer": "order-1"}), "lost"),
    "order that has vanished": (lambda s: s.tell(Kind.SNAPSHOT, Snap.EVENTS, "", events=(("order-9", "accepted", 1.0),)), "lost"),
    "two parcels": (lambda s: s.final.effects.append(("order-1", "TS1b")), "duplicated"),
    "no parcel": (lambda s: s.final.effects.remove(("order-1", "TS1")), "I3"),
    "other parcel": (lambda s: s.replace("order-1", tracking_number="TS9"), "I3"),
    "parcel of a cancelled order": (lambda s: s.final.effects.append(("order-3", "TS3")), "I3"),
    "nobodys parcel": (lambda s: s.final.effects.append(("order-9", "TS9")), "unexpected"),
    "listed twice": (lambda s: s.replace("order-1", listed=("delivering", "delivered")), "I4"),
    "cancelled by nobody": (lambda s: s.order(7, ("accepted", "cancelled")), "unexpected"),
    "cancelled in vain": (lambda s: s.asked(Op.CANCEL, "order-1"), "lost"),
    "cancel refused too soon": (_cancel_refused_too_soon, "unexpected"),
    "cancel of a lost order": (_cancel_of_a_lost_order, "lost"),
    "rejected without stock": (lambda s: s.replace("order-4", quantities={"other": 2}), "unexpected"),
    "rejected though there was enough": (lambda s: s.replace("order-4", quantities={"sku": 2}), "unexpected"),
    "dead of a carrier": (lambda s: _faults_at(s, "carrier"), "I8"),
    "letter lost": (lambda s: s.final.dead.clear(), "I5"),
    "stock kept": (lambda s: s.replace("order-3", reserved='{"sku":2}'), "I7"),
    "stock leaks": (lambda s: s.final.stock["sku"].update(on_hand=94), "I7"),
    "stock reserved": (lambda s: s.final.stock["sku"].update(reserved=4), "I7"),
    "stock of a dead order": (lambda s: s.final.stock["sku"].update(reserved=0), "I7"),
    "negative stock": (lambda s: s.tell(Kind.SNAPSHOT, Snap.STOCK, "sku", numbers={"on_hand": 1, "reserved": 2}), "I7"),
    "uncounted": (lambda s: s.final.counted.update({CELL: 29}), "lost"),
    "counted twice": (lambda s: s.final.counted.update({CELL: 33}), "duplicated"),
    "counted out of nothing": (lambda s: s.final.counted.update({"gate-2 2026-01-01T10:00": 1}), "unexpected"),
    "new called duplicate": (lambda s: s.entries(2, accepted=9, duplicates=1), "lost"),
    "event without answer": (lambda s: s.entries(2, accepted=9), "lost"),
    "taken once more": (
        lambda s: s.asked_again(Op.ENTRIES, "body-1", {"accepted": 1, "duplicates": 9}),
        "duplicated",
    ),
    "order once more": (
        lambda s: s.asked_again(Op.ORDER, "key-1", {"answer": "order-9", "replayed": True}),
        "duplicated",
    ),
    "order as if new": (lambda s: s.asked_again(Op.ORDER, "key-1", {"answer": "order-1"}), "duplicated"),
    "order no more": (lambda s: s.tell(Kind.FAIL, Op.ORDER, "key-1", status=422, repeat=True), "lost"),
    "never counted": (lambda s: setattr(s.final, "counted_events", 9), "I4"),
    "lost events": (_lost_events, "I1"),
    "summary accepted=10, counted=4, pending=5": (
        lambda s: s.saw(Snap.SUMMARY, accepted=10, counted=4, pending=5),
        "I4",
    ),
    "summary accepted=9, counted=4, pending=5": (
        lambda s: s.saw(Snap.SUMMARY, accepted=9, counted=4, pending=5),
        "I4",
    ),
    "summary accepted=11, counted=4, pending=7": (
        lambda s: s.saw(Snap.SUMMARY, accepted=11, counted=4, pending=7),
        "I4",
    ),
    "summary accepted=10, counted=11, pending=-1": (
        lambda s: s.saw(Snap.SUMMARY, accepted=10, counted=11, pending=-1),
        "I4",
    ),
    "orders known=5, open=0, delivered=4": (
        lambda s: s.saw(Snap.ORDERS, known=5, open=0, delivered=4),
        "I4",
    ),
    "orders known=4, open=0, delivered=4": (
        lambda s: s.saw(Snap.ORDERS, known=4, open=0, delivered=4),
        "I4",
    ),
    "orders known=7, open=0, delivered=7": (
        lambda s: s.saw(Snap.ORDERS, known=7, open=0, delivered=7),
        "I4",
    ),
    "lost job": (lambda s: s.final.jobs.clear(), "lost"),
    "job of another request": (lambda s: s.asked(Op.JOB, "key-2", {"answer": "job"}, expected=4, failures=1), "lost"),
    "quarantined without a letter": (lambda s: s.final.jobs.update(job=JobEnd("failed", error_type="Quarantined")), "I5"),
    "endless job": (lambda s: s.final.jobs.update(job=JobEnd("started")), "lost"),
    "job ended twice": (lambda s: s.final.jobs.update(job=JobEnd("finished", ("a", "b"), 4, ("Planned",))), "duplicated"),
    "more starts than faults": (lambda s: s.final.jobs.update(job=JobEnd("finished", ("a",), 5, ("Planned",))), "I8"),
    "fewer failures than planned": (lambda s: s.final.jobs.update(job=JobEnd("finished", ("a",), 4)), "I8"),
    "crash counted as attempt": (
        lambda s: s.final.jobs.update(job=JobEnd("finished", ("a",), 4, ("Planned", "AbandonedJobError"))),
        "I8",
    ),
    "unfinished canvas": (lambda s: s.final.canvases.update({"canvas": CanvasView("canvas", "running", 1, 0, 0, 0.0)}), "lost"),
    "lost canvas": (lambda s: s.final.canvases.clear(), "lost"),
    "fired twice": (lambda s: s.final.fires.append(Fire("roll-up", 120.0, 121.0, 122.0)), "I6"),
    "overlap": (lambda s: s.final.fires.append(Fire("roll-up", 180.0, 120.15, 180.2)), "I6"),
    "no rest": (lambda s: s.final.under_way.append("rq:wip:picking"), "lost"),
    "orphan": (lambda s: s.final.orphans.append("job-in-no-list: rq:job:x"), "I5"),
    "process left": (lambda s: s.final.leaks.append("17: rq worker"), "leak"),
    "connections left": (_connections_left, "leak"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_each_way_in_which_a_run_can_be_wrong_is_found(story: Story, how: str) -> None:
    spoil, kind = SPOILT[how]
    spoil(story)
    found = story.judged()
    assert kind in {violation.kind for violation in found}, found
    assert judge(story.records, story.final).exit_code == 1


def test_a_delayed_order_may_begin_early_by_a_clock_that_jumped_and_by_no_other(story: Story) -> None:
    _early(story)
    story.struck("picker", "clock")
    assert [violation.kind for violation in story.judged()] == ["I2"]
    asked_at = story.records[-6].at
    story.tell(Kind.FAULT, "clock", "web-1", role="web", began_at=asked_at, healed_at=asked_at)
    assert story.judged() == []


def test_a_start_that_was_killed_is_none_that_failed_and_counts_in_what_the_job_returns(story: Story) -> None:
    story.final.jobs.update(job=JobEnd("finished", ("a",), 4))
    assert {violation.kind for violation in story.judged()} == {"I8"}
    story.tell(Kind.FAULT, "kill", "worker-1", role="worker", began_at=1e6, healed_at=1e6)
    assert story.judged() == []


def test_a_violation_shows_the_records_of_its_order_and_the_faults_of_its_time_and_no_others(story: Story) -> None:
    story.tell(Kind.FAULT, "kill", "courier-1", role="courier", began_at=4.5, healed_at=4.6)
    story.tell(Kind.FAULT, "kill", "web-1", role="web", began_at=1e6, healed_at=1e6)
    story.final.effects.append(("order-1", "TS1b"))
    [violation] = story.judged()
    assert [(record.kind, record.op, record.id) for record in violation.history] == [
        (Kind.INVOKE, Op.ORDER, "key-1"),
        (Kind.OK, Op.ORDER, "key-1"),
        (Kind.FAULT, "kill", "courier-1"),
        (Kind.SNAPSHOT, Snap.EVENTS, ""),
    ]
    assert "2 parcels" in str(judge(story.records, story.final))


def test_what_got_no_answer_at_first_and_was_done_all_the_same_is_recovered_and_nothing_wrong() -> None:
    story = Story()
    for op, sent, answer in (
        (Op.ENTRY, {"n": 1, "people": 2, "gate": "gate-1", "minute": MINUTE}, {"duplicates": 1}),
        (Op.ORDER, {}, {"answer": "order-1", "replayed": True}),
    ):
        story.tell(Kind.INVOKE, op, "key-1", **sent)
        story.tell(Kind.INFO, op, "key-1", error="ReadTimeout")
        story.tell(Kind.OK, op, "key-1", status=202, **answer)
    story.tell(Kind.SNAPSHOT, Snap.EVENTS, "", events=tuple(("order-1", status, 1.0) for status in PATH))
    story.final.orders["order-1"] = OrderEnd("key-1", "delivered", ("delivered",), {}, "TS1")
    story.final.effects.append(("order-1", "TS1"))
    story.final.counted[CELL] = 2
    story.final.accepted_events = story.final.counted_events = 1
    verdict = judge(story.records, story.final)
    assert verdict.violations == []
    assert [(row.op, row.recovered) for row in verdict.rows] == [("entry", 1), ("order", 1)]


def test_recovery_runs_from_the_end_of_a_fault_to_the_first_answer_and_to_the_end_of_what_was_open() -> None:
    story = Story()
    story.order(1)  # answered at 2; its events say that it ended at 5
    story.tell(Kind.FAULT, "kill", "courier-1", role="courier", began_at=3.0, healed_at=3.5)  # at 4
    story.order(2)  # sent at 5, answered at 6
    verdict = judge(story.records, story.final)
    assert (verdict.served.max, verdict.caught_up.max, verdict.moved.max) == (2.5, 2.0, 2.0)


bodies = st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 3), st.integers(0, 2), st.booleans()), min_size=1, max_size=30)


@given(bodies, st.integers(0, 10**6), st.integers(-3, 3))
def test_entries_in_ranges_are_right_exactly_if_each_gate_and_minute_has_what_was_answered_for(
    bodies: list[tuple[int, int, int, bool]], where: int, off: int
) -> None:
    story = Story()
    for number, (n, gate, minute, answered) in enumerate(bodies):
        sent = {"n": n, "people": 2 * n, "gate": f"g{gate}", "minute": f"m{minute}"}
        story.tell(Kind.INVOKE, Op.ENTRIES, f"b{number}", **sent)
        if answered:
            story.tell(Kind.OK, Op.ENTRIES, f"b{number}", status=202, accepted=n)
            story.final.counted[f"g{gate} m{minute}"] = story.final.counted.get(f"g{gate} m{minute}", 0) + 2 * n
            story.final.accepted_events += n
            story.final.counted_events += n
    if cells := sorted(story.final.counted):
        story.final.counted[cell := cells[where % len(cells)]] += off
        room = sum(2 * n for n, gate, minute, answered in bodies if not answered and f"g{gate} m{minute}" == cell)
        expected = {("lost", cell)} if off < 0 else {("duplicated", cell)} if off > room else set()
        assert {(v.kind, v.id) for v in story.judged() if v.kind != "unanswered"} == expected


def test_a_history_cut_off_in_its_last_line_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    first = history.append(Kind.INVOKE, Op.ORDER, "key-1", "order-0", delay_s=1.0)
    history.append(Kind.OK, Op.ORDER, "key-1", "order-0", answer="order-1", status=202)
    history.close()
    text = history.path.read_bytes()
    history.path.write_bytes(text[:-1])
    assert list(read(history.path)) == [first]
    assert list(read(history.path)) == [first], "it can be read twice"


def test_a_history_is_never_written_over_another_one(tmp_path: Path) -> None:
    History(tmp_path / "history.jsonl").close()
    with pytest.raises(FileExistsError):
        History(tmp_path / "history.jsonl")


def _long(n_orders: int, n_bodies: int, n_entries: int) -> Iterator[Record]:
    at = time.time()
    for number in range(n_bodies):
        yield Record(at, Kind.INVOKE, Op.ENTRIES, f"b{number}", n=1_000, people=1_000, gate="g", minute="m")
        yield Record(at, Kind.OK, Op.ENTRIES, f"b{number}", status=202, accepted=1_000)
    for number in range(n_entries):
        yield Record(at, Kind.INVOKE, Op.ENTRY, f"e{number}", n=1, people=1, gate="g", minute="m")
        yield Record(at, Kind.OK, Op.ENTRY, f"e{number}", status=202, accepted=1)
    for number in range(n_orders):
        yield Record(at, Kind.INVOKE, Op.ORDER, f"o{number}")
        yield Record(at, Kind.OK, Op.ORDER, f"o{number}", status=202, answer=f"i{number}")
        yield Record(at, Kind.SNAPSHOT, Snap.EVENTS, "", events=tuple((f"i{number}", status, at) for status in PATH))


def test_a_million_entries_and_thousands_of_orders_are_judged_record_by_record() -> None:
    n_orders, n_bodies, n_entries = 2_000, 990, 10_000
    ledger = Ledger.of(_long(n_orders, n_bodies, n_entries))
    assert ledger.done["entries"].all == n_bodies * 1_000 + n_entries == 1_000_000
    final = Final(accepted_events=1_000_000, counted_events=1_000_000, counted={"g m": 999_999})
    final.orders = {f"i{n}": OrderEnd(f"o{n}", Status.DELIVERED, ("delivered",), {}, f"T{n}") for n in range(n_orders)}
    final.effects = [(f"i{n}", f"T{n}") for n in range(n_orders)]
    [violation] = check([], final, ledger)
    assert (violation.kind, violation.id) == ("lost", "g m")
