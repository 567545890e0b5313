"""The carrier's log of effects: one JSON line a shipment, on disk before anybody is told.

The log is the carrier's only memory: read back at the start, so that a key booked before a
kill gets the same tracking number after it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from jobs.errors import TurnstileError

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Shipment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /shipments."""

    order_id: Name
    items: Annotated[int, msgspec.Meta(ge=1)]
    reference: str | None = None
    country: str | None = None
    weight_g: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Effect(msgspec.Struct, frozen=True):
    """One parcel booked. `booked_at` in Unix seconds."""

    key: str
    tracking_number: str
    booked_at: float
    shipment: Shipment


@dataclass
class LogUnusable(TurnstileError):
    """Raised when the log cannot be taken as the truth: held by another carrier, or damaged before its last line."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"carrier log {self.path}: {self.reason}"


class EffectLog:
    """The effects by idempotency key, in memory and on disk. One process at a time holds a log."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LogUnusable(path, "another carrier writes it") from None
        self._effects: dict[str, Effect] = {}
        self._size = self._read_back()
        # What a kill left after the last whole line was never answered: its client asks again.
        os.ftruncate(self._file, self._size)

    def __len__(self) -> int:
        return len(self._effects)

    def find(self, key: str) -> Effect | None:
        """The effect booked under the key."""
        return self._effects.get(key)

    def book(self, key: str, shipment: Shipment) -> tuple[Effect, bool]:
        """Books the parcel once per key; the flag tells whether this call did. On disk when it returns.

        Waits for the disk inside the event loop on purpose: nothing can come between the look-up and the write.
        """
        known = self._effects.get(key)
        if known is not None:
            return known, False
        effect = Effect(key, f"TS{secrets.token_hex(6).upper()}", time.time(), shipment)
        line = msgspec.json.encode(effect) + b"\n"
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(f"the disk took only a part of a line of {self._path}")
            os.fsync(self._file)
        except OSError:
            # The caller gets an error and asks again: the line must not stay and become a second effect.
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)
        self._effects[key] = effect
        return effect, True

    def _read_back(self) -> int:
        """Fills the effects; returns the bytes of the whole lines."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        size = 0
        for number, line in enumerate(lines, start=1):
            try:
                effect = msgspec.json.decode(line, type=Effect)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if number == len(lines):
                    break
                raise LogUnusable(self._path, f"line {number} is damaged: {error}") from error
            if not line.endswith(b"\n"):
                break
            self._effects[effect.key] = effect
            size += len(line)
        return size
