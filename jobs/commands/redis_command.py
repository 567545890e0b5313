"""What the commands that work on Redis share: settings, log, allow-list and client before, one way to fail after."""

import sys
from collections.abc import Callable
from dataclasses import replace

import redis

from jobs import connections, log
from jobs.errors import TurnstileError
from jobs.mall import tasks
from jobs.settings import current


def run(command: Callable[[redis.Redis], str]) -> int:
    """Prints what the command returns; 2, with the reason on stderr, when it cannot be done."""
    try:
        settings = current()
        log.configure(replace(settings, log_level="WARNING"), process="cli")  # the answer alone, not the audit line
        tasks.register(settings)
        print(command(connections.connect(connections.redis_url(settings))))
    except (TurnstileError, redis.exceptions.RedisError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0
