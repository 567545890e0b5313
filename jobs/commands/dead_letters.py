"""`python -m jobs dead-letters ...`: what failed for good, looked at, redriven and discarded from a terminal."""

import argparse
import getpass
import sys
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import redis

from jobs import connections, log
from jobs.errors import TurnstileError
from jobs.mall import tasks
from jobs.queue import dead_letters, redrives
from jobs.settings import current

MAX_MESSAGE = 60

T = TypeVar("T")


def main(argv: list[str]) -> int:
    """One action; 2 when it cannot be done, with the reason on stderr."""
    options = _parser().parse_args(argv)
    try:
        settings = current()
        log.configure(settings, process="cli")
        tasks.register(settings)
        client = connections.connect(connections.redis_url(settings))
        sys.stdout.write(ACTIONS[options.action](client, options) + "\n")
    except (TurnstileError, *connections.AWAY) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs dead-letters", description="What failed for good.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    found = actions.add_parser("list", help="the newest, those of a group, those with a text")
    found.add_argument("--group")
    found.add_argument("--search", help="text in id, task, error type, message or arguments")
    found.add_argument("--limit", type=_whole, default=50)
    found.add_argument("--cursor", help="where the last page ended")
    actions.add_parser("groups", help="all of them by task and error")
    actions.add_parser("redrives", help="redrives and discards of many, and how far they are")
    for name, text in (
        ("show", "one with its attempts"),
        ("discard", "delete one for good"),
        ("cancel", "end a redrive of many"),
    ):
        actions.add_parser(name, help=text).add_argument("id")
    one = actions.add_parser("redrive", help="put one back on its queue")
    one.add_argument("id")
    one.add_argument("--args", type=_array, help="other arguments, a JSON array")
    every = actions.add_parser("redrive-all", help="put those of a group, or all, back on their queues")
    every.add_argument("--group")
    every.add_argument("--rate", type=float, help="letters a second")
    for command in (one, every):
        command.add_argument("--kwargs", type=_object, help="other keyword arguments, a JSON object")
    actions.add_parser("discard-group", help="delete those of a group for good").add_argument("group")
    for command in actions.choices.values():
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _array(text: str) -> list[Any]:
    return _json(text, list[Any])


def _object(text: str) -> dict[str, Any]:
    return _json(text, dict[str, Any])


def _json(text: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _whole(text: str) -> int:
    if not text.isdecimal() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 is needed")
    return int(text)


def _list(client: redis.Redis, options: argparse.Namespace) -> str:
    found, cursor = dead_letters.page(
        client, group=options.group, cursor=options.cursor, limit=options.limit, search=options.search
    )
    if options.json:
        return _encoded({"dead_letters": found, "next_cursor": cursor})
    rows = [(letter.id, _when(letter.died_at), letter.task, letter.group, letter.error_type, letter.error) for letter in found]
    more = f"\nmore with --cursor {cursor}" if cursor else ""
    return _table(("ID", "DIED", "TASK", "GROUP", "ERROR", "MESSAGE"), rows) + more


def _groups(client: redis.Redis, options: argparse.Namespace) -> str:
    found = dead_letters.groups(client)
    rows = [(group.group, str(group.count), group.task, group.error_type, group.error) for group in found]
    return _encoded(found) if options.json else _table(("GROUP", "COUNT", "TASK", "ERROR", "MESSAGE"), rows)


def _show(client: redis.Redis, options: argparse.Namespace) -> str:
    letter = dead_letters.get(client, options.id)
    if options.json:
        return _encoded(letter)
    facts = {name: value for name, value in msgspec.to_builtins(letter).items() if name != "attempts"}
    lines = [
        f"{name:<11}{value if isinstance(value, str) else msgspec.json.encode(value).decode()}" for name, value in facts.items()
    ]
    for attempt in letter.attempts:
        lines += [
            "",
            f"attempt {attempt.attempt}, {_when(attempt.ended_at)}, {attempt.worker}",
            attempt.traceback or attempt.error,
        ]
    return "\n".join(_printable(line) for line in "\n".join(lines).splitlines())


def _redrive(client: redis.Redis, options: argparse.Namespace) -> str:
    dead_letters.redrive(client, options.id, args=options.args, kwargs=options.kwargs, by=_who())
    return _done(options, {"redriven": options.id})


def _discard(client: redis.Redis, options: argparse.Namespace) -> str:
    dead_letters.discard(client, options.id, by=_who())
    return _done(options, {"discarded": options.id})


def _redrive_all(client: redis.Redis, options: argparse.Namespace) -> str:
    asked = redrives.request(client, "redrive", by=_who(), group=options.group, rate_per_s=options.rate, kwargs=options.kwargs)
    return _done(options, {"redrive": asked.id, "letters": asked.total})


def _discard_group(client: redis.Redis, options: argparse.Namespace) -> str:
    asked = redrives.request(client, "discard", by=_who(), group=options.group)
    return _done(options, {"discard": asked.id, "letters": asked.total})


def _redrives(client: redis.Redis, options: argparse.Namespace) -> str:
    found, _more = redrives.page(client, cursor=None, limit=50)
    rows = [
        (
            one.id,
            one.state,
            one.action,
            one.group or "all",
            f"{one.done}/{one.total}",
            str(one.refused),
            one.by,
            _when(one.requested_at),
        )
        for one in found
    ]
    return _encoded(found) if options.json else _table(("ID", "STATE", "ACTION", "GROUP", "DONE", "REFUSED", "BY", "ASKED"), rows)


def _cancel(client: redis.Redis, options: argparse.Namespace) -> str:
    return _done(options, {"cancelled": redrives.cancel(client, options.id, by=_who()).id})


def _who() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return "cli"


def _done(options: argparse.Namespace, facts: dict[str, Any]) -> str:
    return _encoded(facts) if options.json else "  ".join(f"{name} {value}" for name, value in facts.items())


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their cells; the last one, a message, is cut."""
    cells = [head, *([*(_printable(cell) for cell in row[:-1]), _printable(row[-1])[:MAX_MESSAGE]] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def _printable(text: str) -> str:
    """Without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


ACTIONS = {
    "list": _list,
    "groups": _groups,
    "show": _show,
    "redrive": _redrive,
    "redrive-all": _redrive_all,
    "discard": _discard,
    "discard-group": _discard_group,
    "redrives": _redrives,
    "cancel": _cancel,
}
