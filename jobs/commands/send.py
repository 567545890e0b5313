"""`python -m jobs send NAME ARGS...`: enqueues a job by its task's name."""

import argparse
import sys
import time
from typing import Any, get_args

import msgspec

from jobs import connections
from jobs.errors import TurnstileError
from jobs.mall import tasks
from jobs.queue import catalogue
from jobs.queue.options import Priority
from jobs.settings import current


def main(argv: list[str]) -> int:
    """Sends one job and prints its id; 2 when the name, the arguments or Redis will not do."""
    parser = argparse.ArgumentParser(prog="python -m jobs send", description="Enqueue a job by its task's name.")
    parser.add_argument("task", help="name on the allow-list, e.g. samples.print_sentence with TURNSTILE_SAMPLES=1")
    parser.add_argument("args", nargs="*", help="JSON values, or key=JSON; what is no JSON is taken as text")
    parser.add_argument("--queue", help="another queue than the task's own")
    parser.add_argument("--priority", choices=get_args(Priority), help="another priority than the task's own")
    parser.add_argument("--in", dest="countdown_s", type=float, default=0.0, metavar="SECONDS", help="start later")
    options = parser.parse_args(argv)
    now, args, kwargs = time.time(), [], {}
    for text in options.args:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = _value(value)
        else:
            args.append(_value(text))
    try:
        settings = current()
        tasks.register(settings)
        client = connections.connect(connections.redis_url(settings))
        due_at = now + options.countdown_s if options.countdown_s > 0 else None
        overrides = {name: value for name in ("queue", "priority") if (value := getattr(options, name)) is not None}
        job_id, _created = catalogue.send(client, options.task, args, kwargs, now=now, due_at=due_at, **overrides)
    except (TurnstileError, *connections.AWAY) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{job_id}\n")
    return 0


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
