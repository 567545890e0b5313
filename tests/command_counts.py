"""How many commands Redis has run, by name: what a promise about round trips is measured with."""

from collections.abc import Callable
from typing import TypeVar

import redis

Answer = TypeVar("Answer")


def commands_of(client: redis.Redis) -> dict[str, int]:
    """Calls since the server's start or CONFIG RESETSTAT; those inside scripts count as well."""
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in client.info("commandstats").items()}


def commands_during(client: redis.Redis, act: Callable[[], Answer]) -> tuple[int, Answer]:
    """How many commands the server ran for it, those inside scripts as well, and what it returned."""
    before = sum(commands_of(client).values())
    answer = act()
    return sum(commands_of(client).values()) - before - 1, answer  # INFO itself
