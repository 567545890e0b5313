"""The parent's side of one child of a CpuWorker: what it was sent, what of it has begun, what it says of itself."""

import contextlib
import math
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jobs import children
from jobs.errors import JobInterrupted, JobStopped, TimeLimitExceeded
from jobs.queue import channel, child
from jobs.queue.board import Board
from jobs.queue.channel import Chunk, Ended, Incoming, Tokens, Torn
from jobs.queue.ending import Claim

MAX_CHUNKS = 2
GRACE_S = 0.5
"""How long a job may go on after it was told to end."""
MAX_PIECES = 64
"""How much is read from one child before others are looked at."""


class Job(NamedTuple):
    """A claim and the share of its task's executions that failed of late."""

    claim: Claim
    failing: float


class Doom(NamedTuple):
    """The job of that number is told once more at `again_at` (monotonic), and its process killed at `at`."""

    number: int
    reason: JobInterrupted
    again_at: float
    at: float


@dataclass(slots=True)
class _Sent:
    token: int
    numbers: list[int]
    short: bool


@dataclass(slots=True, eq=False)
class Forked:
    """One child. `jobs` are those that it has and that have not ended, by number, in the order in which it runs them."""

    born: float
    stream: socket.socket
    tokens: Tokens
    board: Board
    pid: int
    jobs: dict[int, Job] = field(default_factory=dict)
    n_sent: int = 0
    n_ended: int = 0
    retiring: bool = False
    stalled: int = 0
    """The number of the job that turned out to be long; nothing is sent behind it."""
    softened: int = 0
    doom: Doom | None = None
    status: int | None = None
    """The wait status, once the process has ended."""
    pending: deque[memoryview] = field(default_factory=deque)
    _sign: tuple[int, ...] = ()
    _sign_at: float = 0.0
    _generation: int = 0
    _last: int = 0
    _sent: deque[_Sent] = field(default_factory=deque)
    _incoming: Incoming = field(default_factory=Incoming)

    # --- jobs ---------------------------------------------------------------------------------

    @property
    def short(self) -> bool:
        """Whether it will soon have ended all that it has."""
        return self.stalled not in self.jobs and all(sent.short for sent in self._chunks())

    @property
    def open(self) -> bool:
        """Whether it may be sent a chunk now."""
        if self.retiring or self._generation - self.board.generation >= MAX_CHUNKS:
            return False
        return not self.jobs or (self.short and len(self._sent) < MAX_CHUNKS)

    def send(self, jobs: Sequence[Job], *, short: bool) -> None:
        """The tokens go first: when the child has a job in its hands, a missing token means that it was taken back."""
        self._generation += 1
        first = self._last + 1
        self._last += len(jobs)
        chunk = Chunk(self._generation, first, [channel.data_of(job.claim) for job in jobs], [job.failing for job in jobs])
        self.jobs.update(zip(range(first, self._last + 1), jobs, strict=True))
        self._sent.append(_Sent(chunk.token, list(range(first, self._last + 1)), short))
        self.n_sent += len(jobs)
        self.tokens.give(chunk.token, len(jobs))
        self.pending.append(memoryview(channel.frame(chunk)))
        self.push()

    def take_back(self) -> list[Job]:
        """The jobs that the child has not begun; it will not."""
        back: list[Job] = []
        for token, n in Counter(self.tokens.take_back()).items():
            sent = next(sent for sent in self._sent if sent.token == token)
            # Within a chunk tokens are nameless: the child begins from its head, so these are its last jobs.
            back += [self.jobs.pop(number) for number in sent.numbers[-n:]]
            del sent.numbers[-n:]
        self.n_sent -= len(back)
        return back

    def begun(self) -> dict[int, Job]:
        """The jobs that have begun and whose outcomes have not been read; all but the last have ended."""
        n = len(self.jobs) - self.tokens.left()
        return dict(list(self.jobs.items())[:n])

    def _chunks(self) -> deque[_Sent]:
        while self._sent and (not self._sent[0].numbers or self._sent[0].numbers[-1] not in self.jobs):
            self._sent.popleft()
        return self._sent

    # --- the stream ---------------------------------------------------------------------------

    def push(self) -> None:
        """Sends what the stream takes; whatever breaks it is seen when it is read."""
        with contextlib.suppress(OSError):
            while self.pending:
                n = self.stream.send(self.pending[0])
                self.pending[0] = self.pending[0][n:]
                if not self.pending[0]:
                    self.pending.popleft()
            if self.retiring:
                self.stream.shutdown(socket.SHUT_WR)  # behind what was sent

    def retire(self) -> None:
        """It gets nothing more, ends what it has and exits."""
        self.retiring = True
        self.push()

    def received(self, max_pieces: int = MAX_PIECES) -> tuple[list[Ended], bool]:
        """The outcomes that have come, and whether the stream has ended. Never blocks."""
        found: list[Ended] = []
        try:
            for _ in range(max_pieces):
                piece = self.stream.recv(channel.PIECE)
                if not piece:
                    return found, True
                found += map(channel.decode_ended, self._incoming.messages(piece))
                if len(piece) < channel.PIECE:
                    break
        except BlockingIOError:
            pass
        except (ConnectionError, Torn):
            return found, True
        return found, False

    def unsent(self) -> list[Ended]:
        """The outcomes that it keeps for later; they come by the stream as well, if it lives."""
        return [channel.decode_ended(message) for message in self.board.unsent()]

    # --- the process --------------------------------------------------------------------------

    def interrupt(self, number: int, reason: JobInterrupted, now: float) -> None:
        """Raises the reason inside the job of that number, if it is what runs; a limit or a stop is not discussed for long."""
        if isinstance(reason, TimeLimitExceeded | JobStopped):
            self.doom = Doom(number, reason, now + GRACE_S / 2, now + GRACE_S)
        self._tell(number, reason)

    def insist(self, doom: Doom) -> None:
        """The second time; a coroutine that does not come back to its loop then meets the reason where it is."""
        self.doom = doom._replace(again_at=math.inf)
        self._tell(doom.number, doom.reason)

    def _tell(self, number: int, reason: JobInterrupted) -> None:
        self.board.interrupt(number, reason)
        self.signal(child.WAKE)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; not reaped, it still has its id."""
        if self.status is None:
            os.kill(self.pid, number)

    def is_gone(self) -> bool:
        """Whether the process has ended; reaps it."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def silent_s(self, now: float) -> float:
        """How long it has owed a sign of life: a job to begin or to account for, a chunk to read, its exit."""
        sign = (self.board.running()[0], self.board.generation, self.n_ended, sum(map(len, self.pending)))
        rests = not self.jobs and not self.retiring and self.board.generation == self._generation
        if rests or sign != self._sign:
            self._sign, self._sign_at = sign, now
        return now - self._sign_at

    def close(self) -> None:
        """Closes what this process has of it."""
        self.stream.close()
        self.tokens.close()
        self.board.close()


def fork(now: float, in_child: Callable[[], object]) -> Forked:
    """A new child. `in_child` runs there first: it closes what belongs to the parent. Raises OSError."""
    ours, its = socket.socketpair()
    tokens, board = Tokens(), Board()
    tie = children.end_with_parent(signal.SIGKILL)

    def prepare() -> None:
        tie()
        ours.close()
        in_child()

    child.flush_prints()  # else both processes would print what waits
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # none is handled there as if it were here
    try:
        pid = os.fork()
        if pid == 0:
            child.live(its, tokens, board, prepare)
    except OSError:
        for end in (ours, tokens, board):
            end.close()
        raise
    finally:
        its.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    ours.setblocking(False)
    return Forked(now, ours, tokens, board, pid)
