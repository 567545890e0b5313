"""`python -m jobs send NAME ARGS...`: enqueues a job by its task's name."""

import argparse
from typing import Any, get_args

import msgspec
import redis

from jobs import connections
from jobs.commands import redis_command
from jobs.queue import catalogue
from jobs.queue.options import Priority


def main(argv: list[str]) -> int:
    """Sends one job and prints its id; 2 when the name, the arguments or Redis will not do."""
    parser = argparse.ArgumentParser(prog="python -m jobs send", description="Enqueue a job by its task's name.")
    parser.add_argument("task", help="name on the allow-list, e.g. samples.print_sentence with TURNSTILE_SAMPLES=1")
    parser.add_argument("args", nargs="*", help="JSON values, or key=JSON; what is no JSON is taken as text")
    parser.add_argument("--queue", help="another queue than the task's own")
    parser.add_argument("--priority", choices=get_args(Priority), help="another priority than the task's own")
    parser.add_argument("--in", dest="countdown_s", type=float, default=0.0, metavar="SECONDS", help="start later")
    options = parser.parse_args(argv)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in options.args:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = _value(value)
        else:
            args.append(_value(text))
    overrides = {name: value for name in ("queue", "priority") if (value := getattr(options, name)) is not None}

    def send(client: redis.Redis) -> str:
        connections.share(client)
        task = catalogue.find(client, options.task).options(**overrides)
        if options.countdown_s <= 0:
            return task.delay(*args, **kwargs).id
        return task.enqueue_in(options.countdown_s, *args, **kwargs).id

    return redis_command.run(send)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return text
