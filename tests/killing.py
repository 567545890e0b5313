"""Kills a worker by hand at a chosen round trip to Redis: just before it is sent, or just after its reply, which is then lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from jobs.queue import script


class Killed(BaseException):
    """What a SIGKILL is to a worker by hand: nothing after it is done."""


class Killer:
    """Counts the round trips of a worker's code and kills it at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left: int | None = None
        self._after = False
        self.struck = False
        exchanges = (redis.Redis, "execute_command"), (redis.client.Pipeline, "execute"), (script, "_execute"), (script, "_ask")
        for owner, name in exchanges:
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name)))

    @contextmanager
    def at(self, round_trip: int, *, after: bool) -> Iterator[None]:
        """Kills what is done inside at its nth round trip, from 0; `struck` says whether it came that far."""
        self._left, self._after, self.struck = round_trip, after, False
        try:
            yield
        except Killed:
            self.struck = True
        finally:
            self._left = None

    def _watched(self, call: Any) -> Any:
        def watched(client: Any, *args: Any, **options: Any) -> Any:
            if self._left is None:
                return call(client, *args, **options)
            strikes, self._left = self._left == 0, self._left - 1
            if strikes and not self._after:
                raise Killed
            answer = call(client, *args, **options)
            if strikes:
                raise Killed
            return answer

        return watched
