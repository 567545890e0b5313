"""NDJSON bodies of entries, taken as a stream: lines are parsed as they come and written in portions while the next ones arrive.

A portion is accepted or not on its own. When a later one fails, the answer is that failure, and what came before it
stays accepted: the whole body is sent again, and what was accepted is then a duplicate.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from jobs.errors import InvalidField, Malformed, Refused, TooLarge
from jobs.mall import entries
from jobs.mall.entries import MAX_EVENTS, Entry
from web.admission import Kind
from web.rate_limits import charge
from web.state import state

PORTION = 500
"""Lines that are parsed and written together: about two milliseconds in which the process does nothing else."""


class LineError(msgspec.Struct, frozen=True):
    """A refused line of an NDJSON body; `line` counts from 1."""

    line: int
    error: str


class EntriesAnswer(msgspec.Struct, frozen=True):
    """What became of the events. An accepted event is counted exactly once."""

    accepted: Annotated[int, msgspec.Meta(ge=0)]
    duplicates: Annotated[int, msgspec.Meta(ge=0)]
    rejected: list[LineError]


class Intake:
    """One body on its way."""

    def __init__(self, request: Request) -> None:
        here = state(request)
        self._request = request
        self._parse = partial(entries.parse, settings=here.settings, zone=here.zone, now=time.time())
        self._carry = partial(here.admission.carry, Kind.ENTRIES)
        self._submit = here.coalescer.submit
        self._limit = here.settings.max_body_bytes
        self._lines = self._events = self._written = self._new = 0
        self._rejected: list[LineError] = []
        self._under_way: asyncio.Task[list[bool]] | None = None

    async def take(self) -> EntriesAnswer:
        """Takes the whole body. Raises TooLarge, Malformed, Refused and what Redis raises."""
        try:
            async for lines in self._portions():
                await self._write(self._read(lines))
            await self._landed()
        except (Refused, TooLarge) as error:
            if self._written:
                error.reason = f"{error.reason}; {self._written} events of this body are taken, it is safe to send it again"
            raise
        finally:
            if self._under_way is not None:
                self._under_way.cancel()
        if not self._events:
            raise Malformed("the body is empty, a JSON object is needed")
        return EntriesAnswer(self._new, self._written - self._new, self._rejected)

    async def _portions(self) -> AsyncIterator[list[bytes]]:
        announced = self._request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._limit:
            raise TooLarge(f"the body has {announced} bytes, at most {self._limit} are taken")
        size, lines, last = 0, list[bytes](), bytearray()
        try:
            async for chunk in self._request.stream():
                size += len(chunk)
                if size > self._limit:
                    raise TooLarge(f"the body has more than {self._limit} bytes")
                last += chunk
                if b"\n" not in chunk:
                    continue
                *whole, rest = bytes(last).split(b"\n")
                lines, last = lines + whole, bytearray(rest)
                while len(lines) >= PORTION:
                    yield lines[:PORTION]
                    del lines[:PORTION]
        except ClientDisconnect:
            raise HTTPException(408, "the client went away before the body's end") from None
        yield [*lines, bytes(last)]

    def _read(self, lines: list[bytes]) -> list[Entry]:
        taken: list[Entry] = []
        for line in lines:
            self._lines += 1
            if not line.strip():
                continue
            self._events += 1
            if self._events > MAX_EVENTS:
                raise TooLarge(f"at most {MAX_EVENTS} events are taken at once")
            try:
                taken.append(self._parse(line))
            except (InvalidField, Malformed) as error:
                self._rejected.append(LineError(self._lines, str(error)))
        return taken

    async def _write(self, taken: list[Entry]) -> None:
        await self._landed()
        if taken:
            await charge(self._request, len(taken) - (self._written == 0))
            self._under_way = asyncio.create_task(self._carry(partial(self._submit, taken)))

    async def _landed(self) -> None:
        """One portion is written while the next one is read."""
        task, self._under_way = self._under_way, None
        if task is not None:
            fresh = await task
            self._written += len(fresh)
            self._new += sum(fresh)
