"""The carrier's log of effects: one JSON line a shipment, on disk before anybody is told.

The log is the carrier's only memory: read back at the start, so that a key booked before a
kill gets the same tracking number after it.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Annotated

import msgspec


class Shipment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /shipments."""

    order_id: Annotated[str, msgspec.Meta(min_length=1)]
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


class EffectLog:
    """The effects by idempotency key, in memory and on disk. Raises OSError or msgspec.DecodeError for an unusable file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # What a kill left after the last whole line was never answered: its client asks again.
        lines = path.read_bytes()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._size = len(lines)
        self.effects = {effect.key: effect for effect in msgspec.json.Decoder(Effect).decode_lines(lines)}

    def book(self, key: str, shipment: Shipment) -> tuple[Effect, bool]:
        """Books the parcel once per key; the flag tells whether this call did. On disk when it returns.

        Waits for the disk inside the event loop on purpose: nothing can come between the look-up and the write.
        """
        if key in self.effects:
            return self.effects[key], False
        effect = Effect(key, f"TS{secrets.token_hex(6).upper()}", time.time(), shipment)
        line = msgspec.json.encode(effect) + b"\n"
        os.ftruncate(self._file, self._size)  # an earlier write that failed must not become a second effect
        if os.write(self._file, line) != len(line):
            raise OSError("the disk took only a part of the line")
        os.fsync(self._file)
        self._size += len(line)
        self.effects[key] = effect
        return effect, True
