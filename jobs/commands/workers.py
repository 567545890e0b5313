"""`python -m jobs workers ...`: the workers, looked at, scaled, stopped and restarted from a terminal."""

import argparse
import time
from typing import Any

import msgspec
import redis

from jobs.commands import redis_command
from jobs.commands.terminal import operator, printable, table
from jobs.queue import control, overview
from jobs.queue.overview import WorkerInfo
from jobs.setting_values import Range

HEAD = ("NAME", "KIND", "QUEUES", "STATE", "BUSY", "RANGE", "MEMORY", "DONE", "FAILED", "HEARTBEAT")
DEFAULT = "default"


def main(argv: list[str]) -> int:
    """One action; 2 when it cannot be done, with the reason on stderr."""
    options = _parser().parse_args(argv)
    return redis_command.run(lambda client: _answer(client, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs workers", description="The live workers, when no action is given.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    one = actions.add_parser("scale", help="set how many jobs each worker of a pool runs at once")
    one.add_argument("pool", help="the pool: its workers' queues, joined by -")
    one.add_argument("range", type=_range, help=f"MIN..MAX, one number, or `{DEFAULT}` for what each worker's settings say")
    actions.add_parser("stop", help="let one finish its jobs and exit").add_argument("name")
    actions.add_parser("restart", help="let one finish its jobs and begin anew").add_argument("name")
    for command in actions.choices.values():
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _range(text: str) -> Range | None:
    try:
        return None if text == DEFAULT else Range.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _answer(client: redis.Redis, options: argparse.Namespace) -> str:
    """Does it; what there is to say, as JSON or for people."""
    who = operator()
    match options.action:
        case None:
            found = overview.workers(client, with_jobs=options.json)
            answer: Any = {"workers": found}
            text = table([HEAD, *(_row(worker, time.time()) for worker in found)])
        case "scale":
            answer = control.scale(client, options.pool, options.range, by=who)
            text = f"pool {answer.pool}  range {options.range or DEFAULT}  workers {answer.workers}"
        case "stop":
            control.stop(client, options.name, by=who)
            answer, text = {"stop": options.name}, f"stop {options.name}"
        case _:
            control.restart(client, options.name, by=who)
            answer, text = {"restart": options.name}, f"restart {options.name}"
    return msgspec.json.encode(answer).decode() if options.json else text


def _row(worker: WorkerInfo, now: float) -> list[str]:
    cells = (
        worker.name,
        worker.kind,
        ",".join(worker.queues),
        worker.state,
        f"{worker.busy}/{worker.size}",
        "-" if worker.min is None else f"{worker.min}..{worker.max}",
        "-" if worker.memory_bytes is None else f"{worker.memory_bytes / 2**20:.0f} MiB",
        str(worker.successful),
        str(worker.failed),
        f"{max(0.0, now - worker.heartbeat_at):.1f} s ago",
    )
    return [printable(cell) for cell in cells]
