"""`python -m jobs schedules ...`: periodic and delayed jobs, looked at and changed from a terminal."""

import argparse
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import redis

from jobs.commands import redis_command
from jobs.commands.terminal import operator, printable, table
from jobs.errors import InvalidField
from jobs.queue import delayed, schedules
from jobs.queue.delayed import Delayed
from jobs.queue.schedules import Run, Schedule

SCHEDULES = ("NAME", "TIMES", "NEXT", "LAST", "OUTCOME", "TOOK", "RUNS", "SKIPPED", "MISSED")
RUNS = ("FIRED FOR", "STARTED", "TOOK", "OUTCOME", "JOB")
DELAYED = ("ID", "DUE", "QUEUE", "FAILURES", "CALL")
OVERDUE_S = 10.0
"""What is due for less than that is on its way."""


def main(argv: list[str]) -> int:
    """One action; 2 when it cannot be done, with the reason on stderr."""
    options = _parser().parse_args(argv)
    return redis_command.run(lambda client: _answer(client, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs schedules", description="Periodic jobs, when no action is given.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("runs", help="the last runs of a periodic job").add_argument("name")
    actions.add_parser("run", help="run a periodic job now, besides its times").add_argument("name")
    actions.add_parser("pause", help="let its times pass without a run").add_argument("name")
    actions.add_parser("resume", help="go on with its next time").add_argument("name")
    found = actions.add_parser("delayed", help="jobs that wait for their time, the next due first")
    found.add_argument("--task")
    found.add_argument("--queue")
    found.add_argument("--search", dest="q", metavar="TEXT", help="text in id or description")
    found.add_argument("--limit", type=int, default=50)
    found.add_argument("--cursor", help="where the last page ended")
    actions.add_parser("run-job", help="move a delayed job to its queue now").add_argument("id")
    one = actions.add_parser("reschedule", help="let a delayed job wait until another time")
    one.add_argument("id")
    when = one.add_mutually_exclusive_group(required=True)
    when.add_argument("--in", dest="countdown_s", type=float, metavar="SECONDS")
    when.add_argument("--at", type=datetime.fromisoformat, metavar="TIME", help="with an offset, as in 2026-11-21T10:15:00+00:00")
    actions.add_parser("cancel", help="cancel a delayed job: it never runs").add_argument("id")
    for command in actions.choices.values():
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _answer(client: redis.Redis, options: argparse.Namespace) -> str:
    """Does it; what there is to say, as JSON or for people."""
    now = time.time()
    answer: Any
    match options.action:
        case None:
            answer = {"schedules": schedules.schedules(client, now)}
            text = table([SCHEDULES, *(_schedule(client, one, now) for one in answer["schedules"])])
        case "runs":
            answer = {"runs": schedules.runs(client, options.name)}
            text = table([RUNS, *(_run(one) for one in answer["runs"])])
        case "delayed":
            filters = {name: getattr(options, name) for name in ("task", "queue", "q", "limit", "cursor")}
            answer = delayed.page(client, **filters)
            more = f"\nmore with --cursor {answer.next_cursor}" if answer.next_cursor else ""
            text = table([DELAYED, *(_delayed(one) for one in answer.scheduled)]) + more
        case _:
            answer = _act(client, options, now)
            text = "  ".join(f"{name} {value}" for name, value in answer.items())
    return msgspec.json.encode(answer).decode() if options.json else text


def _act(client: redis.Redis, options: argparse.Namespace, now: float) -> dict[str, str]:
    """Changes something, signed for the audit trail."""
    who = operator()
    match options.action:
        case "run-job":
            delayed.run_now(client, options.id, now, by=who)
            return {"run": options.id}
        case "reschedule":
            if options.at and options.at.tzinfo is None:
                raise InvalidField("at", "needs an offset, as in 2026-11-21T10:15:00+00:00")
            due_at = options.at.timestamp() if options.at else now + options.countdown_s
            delayed.reschedule(client, options.id, due_at, now, by=who)
            return {"rescheduled": options.id, "due": _at(due_at)}
        case "cancel":
            delayed.cancel(client, options.id, now, by=who)
            return {"cancelled": options.id}
    job_id = schedules.act(client, options.action, options.name, now, by=who)
    return {options.action: options.name} | ({"job": job_id} if job_id else {})


def _schedule(client: redis.Redis, one: Schedule, now: float) -> list[str]:
    last = schedules.last_run(client, one.name)
    if one.paused_at is not None:
        next_run = "paused"
    elif one.overdue_s > OVERDUE_S:
        next_run = f"{one.overdue_s:.0f} s overdue"
    else:
        next_run = _at(one.next_fire_at)
    cells = [one.name, f"every {one.every_s:g} s" if one.every_s else f"{one.cron} {one.timezone}", next_run]
    cells += [_at(last.fire_at), last.outcome, _took(last)] if last else [_at(one.last_fire_at), "-", "-"]
    return [printable(cell) for cell in (*cells, str(one.runs), str(one.skipped), str(one.missed))]


def _run(one: Run) -> list[str]:
    return [_at(one.fire_at), _at(one.started_at), _took(one), one.outcome, one.job_id]


def _delayed(one: Delayed) -> list[str]:
    return [printable(cell) for cell in (one.id, _at(one.due_at), one.queue, str(one.failures), one.description or one.task)]


def _took(run: Run) -> str:
    return "-" if run.duration_s is None else f"{run.duration_s:.3g} s"


def _at(instant: float | None) -> str:
    return "-" if instant is None else f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%SZ}"
