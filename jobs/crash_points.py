"""Named places where a process can be told to die: between two round trips, where a kill leaves the most in doubt.

TURNSTILE_CRASH_AT=<name>, or <name>:<n>, ends a process by SIGKILL to itself when it comes there for the nth time. It is for
tests of the recovery and must never be set in production. The process dies that comes there: in an IoWorker all of it; of a
CpuWorker the child, when it is the job's own code that comes there, and else the parent, whose children follow it. The count is
shared with all that is forked from the armed process, and one of them dies: the next child goes on.
"""

import mmap
import os
import re
import signal
from typing import NamedTuple

import structlog

POINTS = {
    # accepted: by the web, or by a program that enqueues
    "accept.asked": "the orders of one round trip are valid; nothing is written",
    "accept.written": "the orders, their idempotency records and jobs stand; their clients do not know",
    "entries.asked": "the entries of one round trip are valid; nothing is written",
    "entries.written": "the entries wait in the buffer and their events are noted; their clients do not know",
    "enqueue.asked": "the jobs are made; nothing is written",
    "enqueue.written": "the jobs stand in Redis; who enqueued them does not know",
    "canvas.asked": "the canvas is compiled; nothing is written",
    "canvas.launched": "the first jobs of the canvas are queued; who launched it does not know",
    "batch.asked": "the items are valid; nothing is written",
    "batch.added": "the items wait and a job for them is due; who added them does not know",
    "cancel.asked": "an order is to be cancelled; nothing is written",
    "cancel.written": "the order is cancelled; who cancelled it does not know",
    "revoke.read": "a job is to be cancelled and its hash was read; nothing is written",
    "revoke.written": "the job is cancelled; who cancelled it does not know",
    "canvas.cancelled": "nothing more of the canvas will start; its waiting jobs stand in their queues",
    # a worker: claim, run, end
    "claim.asked": "the ids of the executions are drawn; nothing is claimed",
    "claim.answered": "the jobs are leased to this worker, which has not read which",
    "claim.begun": "the jobs are with the executor, and may run",
    "claim.found": "claims whose reply was lost are found; they are not handed back",
    "suspect.noted": "a job that one more crash quarantines is on record as begun; it has not begun",
    "beat.answered": "the leases are renewed; the worker does not know",
    "run.ready": "the job's task and arguments are read; its code has not run",
    "run.returned": "the job's code has returned; nobody knows its result",
    "run.raised": "the job's code has raised; nobody knows its error",
    "child.kept": "the outcome stands on the child's board, where the job still counts as running",
    "child.sent": "the outcome is sent to the parent, and stands on the board too",
    "ack.asked": "jobs have ended; their ends are not sent",
    "ack.written": "their ends are written; the worker does not know",
    "end.asked": "a retry, a burial or the end of a member of a canvas is decided; it is not sent",
    "end.written": "it is written; the worker does not know",
    "worker.leaving": "all jobs are written; the worker is still enrolled",
    "stock.decided": "a stock worker knows what follows a failure; nothing is noted",
    "stock.told": "a stock worker's result was handed to the canvas; the job is not finished",
    # the steps of an order, counting, batches, webhooks
    "start.asked": "a delayed order's time has come; it is still scheduled",
    "start.written": "the order waits to be picked; its job has not ended",
    "pick.begun": "the orders of the batch are being picked; no stock is reserved",
    "pick.ended": "stock is reserved and the pack jobs are queued; the batch job has not ended",
    "alone.ended": "the same of an order that is picked alone",
    "step.begun": "the step's attempt is open; its work has not begun",
    "step.ending": "the step's work is done (a parcel booked); nothing of it is written",
    "step.ended": "the order has moved on and its next job is queued; this one has not ended",
    "breaker.granted": "the circuit breaker has lent a call; it was not made",
    "carrier.asked": "the carrier is to be called; it was not",
    "carrier.answered": "the carrier has booked the parcel; the order does not know",
    "count.asked": "a count job is due; its slice is still in the buffer",
    "count.applied": "the slice is counted and gone; the count job has not ended",
    "batch.taken": "the items of a batch are read; its function has not run",
    "batch.answered": "its function has answered; no outcome is written",
    "batch.written": "each item has its outcome; the batch job has not ended",
    "notice.read": "a notice is read; its receiver was not told",
    "notice.sent": "the receiver has answered; the notice still stands",
    "notice.told": "the notice is done and the next one has its job; this one has not ended",
    # dead letters
    "redrive.read": "a dead letter is to be redriven; nothing is written",
    "redrive.written": "it is back on its queue; who asked does not know",
    "discard.read": "a dead letter is to be discarded; nothing is written",
    "discard.written": "it is gone; who asked does not know",
    "redrives.asked": "a redrive of many is asked for; there is no record of it",
    "redrives.opened": "the record stands; who asked does not know",
    "redrives.read": "letters of an open record are read; none of them has moved",
    "redrives.moved": "they are on their queues and off the record; the record is open",
    "redrives.emptied": "no letter of the record is left; it is still open",
    "adopt.read": "a job that only RQ put away as failed is read; it is in no index of ours",
    "trim.read": "the oldest dead letters beyond the bounds are read; none is discarded",
    "trim.discarded": "they are discarded; the audit trail does not say so",
    # the scheduler
    "lead.asked": "the lease is to be asked for",
    "lead.won": "this process leads; it has done no duty",
    "lead.done": "a duty is done; what it did is not counted",
    "lead.leaving": "the leader stops; it still has the lease",
    "promote.asked": "jobs may be due; none has moved",
    "promote.moved": "due jobs are on their queues; periodic ones that are due have not fired",
    "promote.unreadable": "a due job that cannot be read is put away as failed; it is in no index of ours",
    "fire.read": "a fire time has come; nothing is written",
    "fire.written": "the run is queued and the next fire time set; nothing is counted",
    "fire.waited": "the run that waited for the last one's end is queued; nothing is counted",
    "runs.read": "how runs ended is read; the history does not say so",
    "foreign.read": "a periodic job of rq-scheduler's clients is due; nothing is written",
    "foreign.fired": "its run is queued and its next time set; nothing is counted",
    "register.read": "a periodic job is not as the table declares it",
    "register.written": "it is, and due at its time",
    "reclaim.asked": "leases may have run out; nothing has moved",
    "reclaim.moved": "jobs of dead workers are back on their queues; those that crash too often are not buried",
    "quarantine.read": "a job that crashes too often is read; it is not buried",
    "quarantine.buried": "it is a dead letter; nothing is counted",
    "sweep.looked": "two looks found a job nowhere; it is still there",
    "sweep.requeued": "it is back on its queue; nothing is counted",
    "reconcile.doubted": "orders that nothing leads on are found; none has a job",
    "reconcile.healed": "each has one; the pass has not ended",
    "buffer.healed": "a buffer whose job was lost has another; the pass has not ended",
    "notices.healed": "a notice whose job was lost has another; the pass has not ended",
    "canvas.healed": "a lost member of a canvas is made anew; the pass has not ended",
}
"""What has happened at each point, and what has not."""
COUNT_BYTES = 4


class CrashAt(NamedTuple):
    """A point, and the arrival there that is the last: 1 is the first."""

    name: str
    n: int


def parse(text: str) -> CrashAt:
    """Reads `name` or `name:n`. Raises ValueError, with the names that there are."""
    name, _, number = text.partition(":")
    if name not in POINTS:
        raise ValueError(f"no such crash point; there are {', '.join(POINTS)}")
    if not re.fullmatch(r"([1-9][0-9]{0,8})?", number):
        raise ValueError("behind the colon a whole number from 1 on is needed")
    return CrashAt(name, int(number or 1))


_armed: CrashAt | None = None
_reached = mmap.mmap(-1, COUNT_BYTES)
"""How often; in memory that forked processes share. Two that come there at the same instant may count as one."""


def arm(at: CrashAt | None) -> None:
    """From now on this process, or one that is forked from it, dies at the point. Called once at each process's edge."""
    global _armed
    _armed = at
    _reached[:] = bytes(COUNT_BYTES)
    if at is not None:
        structlog.get_logger("crash_points").warning("told to crash: never do that in production", point=at.name, n=at.n)


def reach(name: str) -> None:
    """The process is at the point of this name, and dies there if it was told to."""
    if _armed is not None:
        _count(_armed, name)


def _count(at: CrashAt, name: str) -> None:
    if name != at.name:
        return
    number = int.from_bytes(_reached[:], "little") + 1
    _reached[:] = number.to_bytes(COUNT_BYTES, "little")
    if number == at.n:
        os.write(2, f"process {os.getpid()} crashes at {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
