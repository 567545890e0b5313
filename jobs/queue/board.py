"""What a child and its parent tell each other without a message: a board in shared memory, which outlives the child.

Each word has one writer. The child's gathered outcomes are kept here until they are sent, so that its death takes nothing along
but the job it ran.
"""

import mmap
from collections.abc import Iterator

from jobs.errors import DrainTimeout, JobInterrupted, JobStopped, SoftTimeLimitExceeded, TimeLimitExceeded
from jobs.queue import channel

REASONS = (SoftTimeLimitExceeded, TimeLimitExceeded, JobStopped, DrainTimeout)
HEAD = 128
SIZE = 65_536
NUMBER, GENERATION, RESIDENT, KEPT, CALLS, CALLED, REASON = range(7)
STARTED, LIMIT, SOFT_LIMIT, REASON_LIMIT = range(4)


class Board:
    """One child's. Instants are monotonic, which all processes of a machine share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SIZE)
        self._view = memoryview(self._memory)
        self._words = self._view[: HEAD // 2].cast("Q")
        self._seconds = self._view[HEAD // 2 : HEAD].cast("d")

    def close(self) -> None:
        """Gives the memory back."""
        for view in (self._words, self._seconds, self._view):
            view.release()
        self._memory.close()

    # --- written by the child ---------------------------------------------------------------

    def begin(self, number: int, started: float, limit_s: float, soft_limit_s: float) -> None:
        """The job of that number runs; its number comes last, and is what makes the rest valid."""
        self._seconds[STARTED], self._seconds[LIMIT], self._seconds[SOFT_LIMIT] = started, limit_s, soft_limit_s
        self._words[NUMBER] = number

    def end(self) -> None:
        """No job runs."""
        self._words[NUMBER] = 0

    def keep(self, frame: bytes) -> bool:
        """Keeps a frame that is not sent yet. False when there is no room for it."""
        start = HEAD + self._words[KEPT]
        if start + len(frame) > SIZE:
            return False
        self._view[start : start + len(frame)] = frame
        self._words[KEPT] += len(frame)
        return True

    def kept(self) -> bytes:
        """The frames that are not sent yet; read by the parent as well."""
        return self._memory[HEAD : HEAD + self._words[KEPT]]

    def sent(self) -> None:
        """What was kept is on its way."""
        self._words[KEPT] = 0

    @property
    def generation(self) -> int:
        """The newest chunk that the child has read."""
        return self._words[GENERATION]

    @generation.setter
    def generation(self, generation: int) -> None:
        self._words[GENERATION] = generation

    @property
    def resident(self) -> int:
        """Bytes of memory that the child held when it last looked."""
        return self._words[RESIDENT]

    @resident.setter
    def resident(self, n_bytes: int) -> None:
        self._words[RESIDENT] = n_bytes

    # --- read by the parent -----------------------------------------------------------------

    def running(self) -> tuple[int, float, float, float]:
        """The number of the job that runs (0: none), its start and its limits in seconds."""
        while True:
            number = self._words[NUMBER]
            started, limit_s, soft_limit_s = self._seconds[STARTED], self._seconds[LIMIT], self._seconds[SOFT_LIMIT]
            if self._words[NUMBER] == number:  # else the child has gone on in between
                return number, started, limit_s, soft_limit_s

    def unsent(self) -> Iterator[bytes | bytearray]:
        """The messages that the child keeps, as far as they can be read while it goes on writing."""
        try:
            for _end, body in channel.unframed(self.kept()):
                yield body
        except channel.Torn:
            return

    # --- interruptions: written by the parent, read by the child ----------------------------

    def interrupt(self, number: int, reason: JobInterrupted) -> None:
        """Asks for the reason to be raised inside the job of that number; a signal says that it is there."""
        self._words[CALLED] = number
        self._words[REASON] = REASONS.index(type(reason))
        self._seconds[REASON_LIMIT] = getattr(reason, "limit_s", 0.0)
        self._words[CALLS] += 1

    @property
    def calls(self) -> int:
        """How often an interruption was asked for."""
        return self._words[CALLS]

    def interruption(self, number: int) -> JobInterrupted | None:
        """What was asked for last, if it is meant for the job of that number."""
        if self._words[CALLED] != number:
            return None
        kind = REASONS[self._words[REASON]]
        limits = (self._seconds[REASON_LIMIT],) if issubclass(kind, SoftTimeLimitExceeded | TimeLimitExceeded) else ()
        return kind(*limits)
