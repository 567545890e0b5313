"""`python -m jobs dead-letters ...`: what failed for good, looked at, redriven and discarded from a terminal."""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import redis

from jobs.commands import redis_command
from jobs.commands.terminal import operator, printable, table
from jobs.queue import dead_letters, redrives

MAX_MESSAGE = 60
LETTERS = {"ID": "id", "DIED": "died_at", "TASK": "task", "GROUP": "group", "ERROR": "error_type", "MESSAGE": "error"}
GROUPS = {"GROUP": "group", "COUNT": "count", "TASK": "task", "ERROR": "error_type", "MESSAGE": "error"}
REDRIVES = {name.upper(): name for name in ("id", "state", "action", "group", "done", "total", "refused", "by", "requested_at")}


def main(argv: list[str]) -> int:
    """One action; 2 when it cannot be done, with the reason on stderr."""
    options = _parser().parse_args(argv)
    return redis_command.run(lambda client: _answer(client, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs dead-letters", description="What failed for good.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(args=None, kwargs=None, rate=None, group=None)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    found = actions.add_parser("list", help="the newest, those of a group, those with a text")
    found.add_argument("--search", help="text in id, task, error type, message or arguments")
    found.add_argument("--limit", type=_whole, default=50)
    found.add_argument("--cursor", help="where the last page ended")
    actions.add_parser("groups", help="all of them by task and error")
    actions.add_parser("redrives", help="redrives and discards of many, and how far they are")
    actions.add_parser("show", help="one with its attempts").add_argument("id")
    one = actions.add_parser("redrive", help="put one back on its queue")
    one.add_argument("id")
    one.add_argument("--args", type=_json(list[Any]), help="other arguments, a JSON array")
    every = actions.add_parser("redrive-all", help="put those of a group, or all, back on their queues")
    every.add_argument("--rate", type=float, help="letters a second")
    for command in (found, every):
        command.add_argument("--group")
    for command in (one, every):
        command.add_argument("--kwargs", type=_json(dict[str, Any]), help="other keyword arguments, a JSON object")
    actions.add_parser("discard", help="delete one for good").add_argument("id")
    actions.add_parser("discard-group", help="delete those of a group for good").add_argument("group")
    actions.add_parser("cancel", help="end a redrive of many").add_argument("id")
    for command in actions.choices.values():
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _json(kind: type[Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return msgspec.json.decode(text, type=kind)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse


def _whole(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 is needed")
    return int(text)


def _answer(client: redis.Redis, options: argparse.Namespace) -> str:
    """Does it; what there is to say, as JSON or for people."""
    match options.action:
        case "list":
            found, cursor = dead_letters.page(
                client, group=options.group, cursor=options.cursor, limit=options.limit, search=options.search
            )
            answer: Any = {"dead_letters": found, "next_cursor": cursor}
            text = _table(LETTERS, found) + (f"\nmore with --cursor {cursor}" if cursor else "")
        case "groups":
            answer = dead_letters.groups(client)
            text = _table(GROUPS, answer)
        case "redrives":
            answer, _more = redrives.page(client, cursor=None, limit=50)
            text = _table(REDRIVES, answer)
        case "show":
            answer = dead_letters.get(client, options.id)
            text = _letter(answer)
        case _:
            answer = _act(client, options)
            text = "  ".join(f"{name} {value}" for name, value in answer.items())
    return msgspec.json.encode(answer).decode() if options.json else text


def _act(client: redis.Redis, options: argparse.Namespace) -> dict[str, str | int]:
    """Changes something, signed for the audit trail."""
    who = operator()
    match options.action:
        case "redrive":
            dead_letters.redrive(client, options.id, args=options.args, kwargs=options.kwargs, by=who)
            return {"redriven": options.id}
        case "discard":
            dead_letters.discard(client, options.id, by=who)
            return {"discarded": options.id}
        case "cancel":
            return {"cancelled": redrives.cancel(client, options.id, by=who).id}
    action: redrives.Action = "redrive" if options.action == "redrive-all" else "discard"
    asked = redrives.request(client, action, by=who, group=options.group, rate_per_s=options.rate, kwargs=options.kwargs)
    return {action: asked.id, "letters": asked.total}


def _letter(letter: dead_letters.DeadLetter) -> str:
    lines = [
        f"{name:<11}{value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in msgspec.to_builtins(letter).items()
        if name != "attempts"
    ]
    for attempt in letter.attempts:
        head = f"attempt {attempt.attempt}, {_cell('ended_at', attempt)}, {attempt.worker}"
        lines += ["", head, attempt.traceback or attempt.error]
    return "\n".join(printable(line) for line in "\n".join(lines).splitlines())


def _table(columns: dict[str, str], found: Sequence[Any]) -> str:
    return table([tuple(columns), *([_cell(name, one) for name in columns.values()] for one in found)])


def _cell(name: str, one: Any) -> str:
    value = getattr(one, name)
    if name.endswith("_at"):
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(value))
    text = printable("all" if value is None else str(value))
    return text[:MAX_MESSAGE] if name == "error" else text
