"""Ends of jobs on their way to Redis: gathered, written together where the job's guarantees allow it, repeated until taken.

A job stays in its worker's hands, lease and all, until its end is written. A write that is repeated because its reply was
lost changes nothing, and one whose lease was lost writes nothing.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import redis

from jobs import connections, crash_points, log
from jobs.queue import ending
from jobs.queue.ending import Claim, Written
from jobs.queue.outcome import Outcome
from jobs.queue.script import Invocation

MAX_BATCH = 100
MAX_ALONE = 25
"""So many are written one by one before leases are looked after again."""
Ended = tuple[Claim, Outcome]
logger = log.get("worker")


class Acks:
    """`written(claim, outcome, how)` is told each end, once; `how` is None for one that Redis refuses for good."""

    def __init__(self, written: Callable[[Claim, Outcome, Written | None], None]) -> None:
        self._written = written
        self._returned: list[Ended] = []
        self._plain: dict[str, list[Ended]] = {}
        self._alone: deque[Ended] = deque()

    @property
    def returning(self) -> bool:
        """Whether there are jobs that go back to their queues."""
        return bool(self._returned)

    def add(self, claim: Claim, outcome: Outcome) -> None:
        """One more end."""
        if outcome.what == "handed back":
            self._returned.append((claim, outcome))
        elif ending.is_plain(claim, outcome):
            self._plain.setdefault(claim.queue, []).append((claim, outcome))
        else:
            self._alone.append((claim, outcome))

    def batches(self) -> list[list[Ended]]:
        """What is written in one round trip; it stays until `takes`.

        Jobs that go back one by one, the last claimed first, since each goes to the front; finished ones queue by queue.
        """
        self._returned.sort(key=_age, reverse=True)
        return [[end] for end in self._returned] + [ends[:MAX_BATCH] for ends in self._plain.values() if ends]

    def invocation(self, batch: list[Ended]) -> Invocation:
        """The call that writes the batch."""
        claim, outcome = batch[0]
        crash_points.reach("ack.asked")
        return ending.releasing(claim, outcome.ended_at) if outcome.what == "handed back" else ending.finishing(batch)

    def takes(self, batch: list[Ended], reply: Any) -> bool:
        """Takes the reply to a batch, or the error; False when Redis cannot take the batch now."""
        claim, outcome = batch[0]
        crash_points.reach("ack.written")
        ends = self._returned if outcome.what == "handed back" else self._plain[claim.queue]
        if isinstance(reply, redis.exceptions.RedisError):
            if connections.is_away(reply):
                return False
            self._alone.extend(batch)  # the others of the batch are not to suffer from one
            reply = []
        del ends[: len(batch)]
        for (claim, outcome), how in zip(batch, reply if isinstance(reply, list) else [reply], strict=False):
            self._written(claim, outcome, Written(how))
        return True

    def write_alone(self, client: redis.Redis) -> None:
        """Writes some of what goes alone. Raises RedisError when Redis cannot take all of it now."""
        refusal: redis.exceptions.RedisError | None = None
        for _ in range(min(len(self._alone), MAX_ALONE)):
            claim, outcome = self._alone[0]
            how = None
            try:
                crash_points.reach("end.asked")
                how = ending.write(client, claim, outcome)
                crash_points.reach("end.written")
            except connections.AWAY:
                raise
            except redis.exceptions.RedisError as error:
                if connections.is_away(error):  # a full memory, which takes other ends
                    refusal = error
                    self._alone.rotate(-1)
                    continue
                logger.exception("Redis refuses the job's end, leaving it to be reclaimed", job_id=claim.id)
            except Exception:  # of a hook, say: the lease runs out, and a job that ends so again and again is quarantined
                logger.exception("the job's end cannot be written, leaving it to be reclaimed", job_id=claim.id)
            self._alone.popleft()
            self._written(claim, outcome, how)
        if refusal is not None:
            raise refusal


def _age(end: Ended) -> tuple[int, str]:
    """Executions of one worker are counted, in hexadecimal."""
    execution = end[0].execution
    return len(execution), execution
