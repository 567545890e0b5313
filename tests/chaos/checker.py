"""The judge: holds what was answered against what is there in the end, and shows of each violation only its own records.

As in Jepsen's total-queue: `lost` was answered and left no trace or never ended, `unexpected` is there though nobody asked
for it, `duplicated` was done more than once; beside these the invariants I1 to I8, `unanswered`, and `leak`. Pure and linear.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

import msgspec
from history import Kind, Op, Record, Snap
from ledger import CRASHES, ENTRIES, Fault, Ledger, Told, amiss, crashes
from observed import PLANNED, STOCK_WORKER, Final, JobEnd
from order_rules import Wrongs, wrongs

from jobs.mall.orders import Status

QUARANTINED = "Quarantined"
ADOPTED = "Unknown"
"""The error of a dead letter that a stock worker made: it says none. Ours always do."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. `id`: of the order, the request, the gate and minute, or the key that it is about."""

    kind: str
    id: str
    reason: str
    history: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation whose history has not been looked up: that of these requests, and of this order."""

    kind: str
    id: str
    reason: str
    about: tuple[tuple[str, str], ...] = ()
    order_id: str = ""


def check(history: Iterable[Record], final: Final, ledger: Ledger | None = None) -> list[Violation]:
    """Everything that is wrong. The history is read once for its ledger, unless that is given, and again when something is."""
    ledger = ledger or Ledger.of(history)
    found = [*_answers(ledger), *_entries(ledger, final), *_orders(ledger, final), *_stock(ledger, final)]
    found += [*_jobs(ledger, final), *_rest(final)]
    shown = [_shown(wrong) for wrong in ledger.wrong]
    return shown + _with_histories(found, history, ledger.faults)


def _shown(wrong: Fault) -> Violation:
    return Violation(wrong.kind, wrong.record.id, wrong.reason, (wrong.record,))


def _answers(ledger: Ledger) -> Iterator[Finding]:
    for told_of in ledger.told.values():
        for told in told_of.values():
            if told.kind is None:
                yield _of(told, "unanswered", "no answer in all that time")
            elif told.kind is Kind.FAIL and not told.refusable and told.op is not Op.CANCEL:
                yield _of(told, "unexpected", f"refused with {told.status}, though nothing was wrong with it")
            elif told.ok and told.refusable:
                yield _of(told, "unexpected", "taken, though it must be refused")


def _entries(ledger: Ledger, final: Final) -> Iterator[Finding]:
    """I1: people by gate and minute, and what each answer said."""
    sure: Counter[str] = Counter()
    perhaps: Counter[str] = Counter()
    for told in (told for op in ENTRIES for told in ledger.told[op].values()):
        cell = f"{told.gate} {told.minute}"
        perhaps[cell] += told.people
        if told.ok:
            sure[cell] += told.people
            if told.accepted + told.duplicates != told.n:
                yield _of(told, "lost", f"of {told.n} events {told.accepted} were taken and {told.duplicates} were known")
            elif told.duplicates and not told.unknown and not amiss(ledger.faults, told.asked_at, told.answered_at):
                # Else: a script that the web sends again, its reply being lost, finds its own event.
                yield _of(told, "lost", f"{told.duplicates} new events were called duplicates")
    bad: dict[str, tuple[str, str]] = {}
    for cell in perhaps.keys() | final.counted.keys():
        counted = final.counted.get(cell, 0)
        if counted < sure[cell]:
            bad[cell] = "lost", f"{sure[cell]} people were answered for, {counted} are counted"
        elif counted > perhaps[cell]:
            kind = "duplicated" if perhaps[cell] else "unexpected"
            bad[cell] = kind, f"{perhaps[cell]} people were sent, {counted} are counted"
    about: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    if bad:
        for told in (told for op in ENTRIES for told in ledger.told[op].values()):
            if (cell := f"{told.gate} {told.minute}") in bad:
                about[cell].append((told.op, told.id))
    for cell, (kind, reason) in sorted(bad.items()):
        yield Finding(kind, cell, reason, tuple(about[cell]))
    if final.accepted_events != final.counted_events:
        yield Finding("I4", "entries", f"{final.accepted_events} events accepted, {final.counted_events} counted, at rest")
    if not ledger.done["entries"].all <= final.accepted_events <= ledger.sent["entries"].all:
        sums = f"{ledger.done['entries'].all} events answered for, {ledger.sent['entries'].all} sent"
        yield Finding("I1", "entries", f"{sums}, {final.accepted_events} accepted")


def _orders(ledger: Ledger, final: Final) -> Iterator[Finding]:
    """I2 to I5."""
    wanted: Counter[str] = Counter()
    asked, parcels, by_reference = ledger.told[Op.ORDER], defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for order_id, tracking_number in final.effects:
        parcels[order_id].append(tracking_number)
    for order_id, order in final.orders.items():
        by_reference[order.reference].append(order_id)
        wanted.update(order.quantities)
    scarce = {sku for sku, told in ledger.told[Op.STOCK].items() if wanted[sku] > told.n}
    for told in asked.values():
        known = final.orders.get(told.answer)
        if told.ok and (known is None or known.reference != told.id):
            yield _of(told, "lost", f"answered as {told.answer}, which is {known.reference if known else 'no order'}")
        if told.kind is Kind.FAIL and told.id in by_reference:
            yield _of(told, "unexpected", f"refused with {told.status}, and it is there as {by_reference[told.id]}")
    for reference, ids in by_reference.items():
        if len(ids) > 1:
            yield Finding("duplicated", reference, f"{len(ids)} orders for one key: {ids}", ((Op.ORDER, reference),))
    for order_id, order in final.orders.items():
        about = ((Op.ORDER, order.reference), (Op.CANCEL, order_id))
        sender = asked.get(order.reference)
        if sender is None:
            yield Finding(
                "unexpected", order_id, f"nobody has sent an order with the reference {order.reference!r}", about, order_id
            )
            continue
        found = wrongs(
            sender,
            ledger.told[Op.CANCEL].get(order_id),
            order,
            path=ledger.paths.get(order_id, []),
            parcels=parcels.get(order_id, []),
            faults=ledger.faults,
            letters=final.dead,
            scarce=scarce,
        )
        for kind, reason in found:
            yield Finding(kind, order_id, reason, about, order_id)
    for order_id in ledger.paths.keys() - final.orders.keys() - {told.answer for told in asked.values()}:
        yield Finding("lost", order_id, "it has changed, and there is no such order", (), order_id)
    for order_id in parcels.keys() - final.orders.keys():
        yield Finding("unexpected", order_id, "a parcel of an order that is not there", ((Op.CANCEL, order_id),), order_id)


def _stock(ledger: Ledger, final: Final) -> Iterator[Finding]:
    """I7: what is missing was delivered, and what is reserved is held by dead orders, which may be redriven."""
    sold, held = Counter[str](), Counter[str]()
    for order in final.orders.values():
        if order.status == Status.DELIVERED:
            sold.update(order.quantities)
        elif order.status == Status.DEAD and order.reserved:
            held.update(msgspec.json.decode(order.reserved, type=dict[str, int]))
    for sku, told in ledger.told[Op.STOCK].items():
        found, left = final.stock.get(sku, {}), told.n - sold[sku]
        if left < 0 or (told.ok and (found.get("on_hand"), found.get("reserved", 0)) != (left, held[sku])):
            said = f"{told.n} were on hand, {sold[sku]} delivered, {held[sku]} held by dead orders"
            yield _of(told, "I7", f"{said}, and now it is {found}")


def _jobs(ledger: Ledger, final: Final) -> Iterator[Finding]:
    answered = [told for op in (Op.JOB, Op.ITEM) for told in ledger.told[op].values() if told.ok]
    shared = Counter(told.answer for told in answered)
    for told in answered:
        job = final.jobs.get(told.answer)
        if job is None:
            yield _of(told, "lost", f"answered as {told.answer}, and there is no such job")
        else:
            if shared[told.answer] > 1:
                yield _of(told, "lost", f"answered as {told.answer}, as another request was")
            for kind, reason in _job(told, job, ledger.faults, final.dead):
                yield _of(told, kind, reason)
    for told in ledger.told[Op.CANVAS].values():
        canvas = final.canvases.get(told.answer)
        if told.ok and canvas is None:
            yield _of(told, "lost", "there is no such canvas")
        elif canvas is not None and (canvas.status, canvas.result) != ("finished", told.expected):
            yield _of(told, "lost", f"is {canvas.status} with {canvas.result}, {told.expected} was expected")


def _job(told: Told, job: JobEnd, faults: Sequence[Record], letters: Set[str]) -> Wrongs:
    if job.status == "failed" and job.error_type == QUARANTINED:
        if told.answer not in letters:
            yield "I5", f"the job {told.answer} is quarantined, and no dead letter"
        if crashes(faults, told.asked_at) < CRASHES:
            yield "I8", f"the job {told.answer} is quarantined, and fewer than {CRASHES} faults came after it was sent"
        return
    if job.status == "failed" and job.error_type == ADOPTED and told.answer in letters:
        return
    if job.status != "finished":
        yield "lost", f"the job {told.answer} is {job.status}: {job.error_type or 'it never ended'}"
        return
    if len(job.wrote) > 1 and not any(map(STOCK_WORKER.fullmatch, job.wrote)):
        yield "duplicated", f"the job {told.answer} ended {len(job.wrote)} times: {job.wrote}"
    if told.failures:
        yield from _failing(told, job, crashes(faults, told.asked_at))
    elif job.failed:
        yield "I8", f"no attempt of {told.answer} was to fail, and {job.failed} did"
    elif told.expected is not None and job.result != told.expected:
        yield "unexpected", f"the result of {told.answer} is {job.result}, {told.expected} was expected"


def _failing(told: Told, job: JobEnd, n_faults: int) -> Wrongs:
    """A job whose first starts fail; its result is the number of starts, and one that was killed in the middle is one, too."""
    more = job.result - told.expected if isinstance(job.result, int) else -1
    fewer = told.failures - len(job.failed)
    if set(job.failed) - {PLANNED} or fewer < 0 or more < 0 or fewer + more > n_faults:
        yield (
            "I8",
            f"{told.failures} attempts of {told.answer} were to fail, {job.failed} did, and it was started {job.result} times",
        )


def _rest(final: Final) -> Iterator[Finding]:
    """I5, I6 and leaks."""
    last: dict[str, tuple[float, float]] = {}
    for fire in sorted(final.fires, key=lambda fire: (fire.name, fire.fire_at)):
        fire_at, ended_at = last.get(fire.name, (0.0, 0.0))
        if fire.fire_at == fire_at:
            yield Finding("I6", fire.name, f"fired twice for {fire_at:.0f}")
        elif fire.started_at and fire.started_at < ended_at:
            yield Finding("I6", fire.name, f"the run for {fire.fire_at:.0f} began before the one for {fire_at:.0f} had ended")
        last[fire.name] = fire.fire_at, fire.ended_at
    for key in final.under_way:
        yield Finding("lost", key, "still under way when the system should long be at rest")
    for orphan in final.orphans:
        yield Finding("I5", orphan.partition(": ")[2], orphan)
    for leak in final.leaks:
        yield Finding("leak", leak.partition(":")[0], f"a process that was left behind: {leak}")
    if final.max_connections and final.connections > final.max_connections:
        yield Finding(
            "leak", "connections", f"{final.connections} connections at rest, at most {final.max_connections} are needed"
        )


def _of(told: Told, kind: str, reason: str) -> Finding:
    return Finding(kind, told.id, reason, ((told.op, told.id),))


def _with_histories(found: list[Finding], history: Iterable[Record], faults: list[Record]) -> list[Violation]:
    """One pass over the history for all of them; of a record of many changes each gets those of its order."""
    if not found:
        return []
    by_request, by_order = defaultdict[tuple[str, str], list[int]](list), defaultdict[str, list[int]](list)
    for number, finding in enumerate(found):
        for request in finding.about:
            by_request[request].append(number)
        if finding.order_id:
            by_order[finding.order_id].append(number)
    records: list[list[Record]] = [[] for _ in found]
    for record in history:
        if record.kind is Kind.SNAPSHOT and record.op == Snap.EVENTS:
            for order_id in {event[0] for event in record.events} & by_order.keys():
                own = tuple(event for event in record.events if event[0] == order_id)
                for number in by_order[order_id]:
                    records[number].append(msgspec.structs.replace(record, events=own))
        elif record.kind not in (Kind.SNAPSHOT, Kind.FAULT):
            for number in by_request.get((record.op, record.id), ()):
                records[number].append(record)
    return [
        Violation(finding.kind, finding.id, finding.reason, tuple(_amid(own, faults)))
        for finding, own in zip(found, records, strict=True)
    ]


def _amid(records: list[Record], faults: list[Record]) -> list[Record]:
    """The records and, in their order, the faults from the first to the last of them."""
    if not records:
        return []
    first, last = records[0].at, records[-1].at
    near = [fault for fault in faults if fault.began_at <= last and (fault.healed_at or fault.at) >= first]
    return sorted([*records, *near], key=lambda record: record.began_at or record.at)
