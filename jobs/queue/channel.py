"""What goes between a worker's parent and its children: frames of MessagePack, and the tokens that decide who has a job.

A chunk of jobs goes down a stream; one token for each of its jobs goes into a pipe before it. The child reads a token before it
begins a job, the parent takes jobs back by reading what is left of them: the kernel gives each byte to one of the two.
"""

import fcntl
import os
import struct
import sys
import termios
import zlib
from collections.abc import Iterator, Mapping
from io import FileIO

import msgspec

from jobs.queue.ending import Claim
from jobs.queue.outcome import Outcome

_HEAD = struct.Struct("=II")
_GENERATIONS = 256
PIECE = 65_536
"""How much one call reads from a stream."""

ClaimData = tuple[str, str, str, str, Mapping[bytes, bytes], float]


class Chunk(msgspec.Struct, array_like=True, gc=False):
    """Jobs for a child, numbered from `first`. `failing` is the share of each one's task that failed of late."""

    generation: int
    first: int
    claims: list[ClaimData]
    failing: list[float]

    @property
    def token(self) -> int:
        """What a child must read before it begins one of these jobs."""
        return self.generation % _GENERATIONS


class Ended(msgspec.Struct, array_like=True, gc=False):
    """The end of the job of that number, after `duration_s` in the child."""

    number: int
    duration_s: float
    outcome: Outcome


decode_chunk = msgspec.msgpack.Decoder(Chunk).decode
decode_ended = msgspec.msgpack.Decoder(Ended).decode
_encode = msgspec.msgpack.Encoder().encode


def data_of(claim: Claim) -> ClaimData:
    """The claim as it travels; `Claim(*data)` is the claim again."""
    return claim.id, claim.execution, claim.queue, claim.worker, claim.hash, claim.started_at


def frame(message: Chunk | Ended) -> bytes:
    """A message as it goes over a stream: length, checksum, MessagePack."""
    body = _encode(message)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


class Torn(Exception):
    """Raised for a frame that was being written when it was read, or that something else has overwritten."""


def unframed(data: bytes | bytearray) -> Iterator[tuple[int, bytes | bytearray]]:
    """The messages in the data, each with the offset behind it. What has not come completely is left. Raises Torn."""
    end = 0
    while end + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, end)
        start, end = end + _HEAD.size, end + _HEAD.size + size
        if end > len(data):
            return
        body = data[start:end]
        if zlib.crc32(body) != checksum:
            raise Torn
        yield end, body


class Incoming:
    """Puts together what comes over a stream in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def messages(self, piece: bytes) -> list[bytes | bytearray]:
        """The messages that are complete with this piece. Raises Torn."""
        self._data += piece
        found, end = [], 0
        for end, body in unframed(self._data):  # noqa: B007  where the last one ends
            found.append(body)
        del self._data[:end]
        return found


class Tokens:
    """The pipe of a child's tokens; `taken` belongs in the child, all else in the parent."""

    def __init__(self) -> None:
        ours, its = os.pipe()
        os.set_blocking(ours, False)
        self._read, self._write = FileIO(ours, "rb"), FileIO(its, "wb")
        self._count = bytearray(4)

    def give(self, token: int, n: int) -> None:
        """Lets the child begin `n` more jobs."""
        self._write.write(bytes((token,)) * n)

    def left(self) -> int:
        """How many the child has not read."""
        fcntl.ioctl(self._read, termios.FIONREAD, self._count)
        return int.from_bytes(self._count, sys.byteorder)

    def take_back(self) -> bytes:
        """All that the child has not read, nor will read now."""
        taken = b""
        while piece := self._read.read(PIECE):
            taken += piece
        return taken

    def taken(self) -> int | None:
        """The next one. None: the parent has taken it back."""
        found = self._read.read(1)
        return found[0] if found else None

    def close(self) -> None:
        """Closes what this process has of it; done again, it does nothing."""
        self._read.close()
        self._write.close()
