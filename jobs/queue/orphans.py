"""How the doctor works: what looks wrong is looked at again, twice, each time by one script, which also puts it right.

A system at work changes while it is being read, page by page. So a first look only makes suspects. A second later a script looks
at each, and what it sees, it sees in one instant; and a second after that once more, since a stock worker has a job in no
list for some milliseconds. The same script mends, after it has looked: it may be called at any time, beside everything
that runs.
Memory: the ids of all jobs in lists (about 120 bytes each, for the time of the first look) and what is found.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from jobs import key_patterns, log
from jobs.queue import audit

PAGE = 500
LOOKS = 2
LOOK_AGAIN_S = 1.0
EXAMPLES = 5
MAX_NOTED = 500
logger = log.get("doctor")

Target = tuple[str, ...]
"""What is wrong: ids or keys, as its kind's `settle` understands them."""
Settle = Callable[[redis.Redis, Target, bool], Any]
"""Says in one instant whether the target is wrong; with True it is also put right."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which things can be wrong. `mends` is what --fix does; empty: that is left to a person."""

    name: str
    says: str
    mends: str
    settle: Settle
    last: bool = False
    """Mended after the others, from which it may follow: what owns a job knows better where it belongs than the job's hash."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, or at the first look perhaps wrong."""

    kind: Kind
    target: Target


@dataclass(frozen=True, slots=True)
class Seen:
    """A key as the walk through all keys saw it. `entry` is what jobs/keys.py says of it, None when that knows it not."""

    name: str
    type: str
    ttl_s: int
    entry: key_patterns.Documented | None

    @property
    def holds(self) -> str:
        """What was put into the shape of the key: an id, mostly."""
        return self.entry.holds(self.name) if self.entry else self.name


ByKeys = Callable[[redis.Redis, Sequence[Seen]], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Part:
    """What one module looks for: in the whole, among all keys, and among those of a name of jobs/keys.py and the type it says."""

    whole: Sequence[Callable[[redis.Redis], Iterable[Finding]]] = ()
    every: Sequence[ByKeys] = ()
    named: Mapping[str, ByKeys] = field(default_factory=dict)


@dataclass(slots=True)
class Walk:
    """A walk through all keys, and how many there were."""

    ours: int = 0
    foreign: int = 0

    def pages(self, client: redis.Redis) -> Iterator[list[Seen]]:
        """Our keys with what they are, a page at a time."""
        cursor = -1
        while cursor:
            cursor, found = client.scan(max(cursor, 0), count=PAGE)
            names = [key.decode(errors="replace") for key in found]
            ours = [name for name in names if name.partition(":")[0] in key_patterns.OURS]
            self.ours, self.foreign = self.ours + len(ours), self.foreign + len(names) - len(ours)
            with client.pipeline(transaction=False) as pipeline:
                for name in ours:
                    pipeline.type(name)
                    pipeline.ttl(name)
                answers = pipeline.execute()
            yield [_seen(name, *answer) for name, *answer in zip(ours, answers[::2], answers[1::2], strict=True)]


def _seen(name: str, kind: bytes, ttl_s: int) -> Seen:
    entries, text = key_patterns.of(name), kind.decode()
    return Seen(name, text, ttl_s, next((entry for entry in entries if entry.type == text), entries[0] if entries else None))


def examine(client: redis.Redis, parts: Sequence[Part], walk: Walk, wait: Callable[[float], object]) -> list[Finding]:
    """Everything that is wrong and stays so; writes nothing."""
    found = list(dict.fromkeys(_suspects(client, parts, walk)))
    for _ in range(LOOKS):
        if found:
            wait(LOOK_AGAIN_S)
        found = [finding for finding in found if settle(client, finding, act=False)]
    return found


def mend(client: redis.Redis, found: Sequence[Finding], *, by: str) -> list[Finding]:
    """Mends what can be mended, and returns what is still wrong after that. Noted in the audit trail before it is done."""
    ordered = sorted(found, key=lambda finding: finding.kind.last)
    for kind in dict.fromkeys(finding.kind for finding in ordered if finding.kind.mends):
        targets = [finding.target for finding in ordered if finding.kind is kind]
        shown = ", ".join(" ".join(target) for target in targets[:EXAMPLES])
        audit.record(client, f"doctor {kind.name}", who=by, target=f"{len(targets)}: {shown}"[:MAX_NOTED])
    for finding in ordered:
        if finding.kind.mends and settle(client, finding, act=True):
            logger.warning("mended", kind=finding.kind.name, target=finding.target)
    return [finding for finding in found if settle(client, finding, act=False)]


def settle(client: redis.Redis, found: Finding, *, act: bool) -> bool:
    """Whether it is wrong, and with `act` also mends it."""
    try:
        return bool(found.kind.settle(client, found.target, act))
    except redis.exceptions.ResponseError as error:  # a key of another type, perhaps, which is a finding of its own
        logger.warning("cannot be looked at", kind=found.kind.name, target=found.target, error=str(error))
        return False


def _suspects(client: redis.Redis, parts: Sequence[Part], walk: Walk) -> Iterator[Finding]:
    for part in parts:
        for find in part.whole:
            yield from _readable(find(client))
    for page in walk.pages(client):
        by_name: dict[str, list[Seen]] = {}
        for seen in page:
            if seen.entry and seen.type == seen.entry.type:
                by_name.setdefault(seen.entry.name, []).append(seen)
        for part in parts:
            for find_any in part.every:
                yield from _readable(find_any(client, page))
            for name, of_name in by_name.items():
                if name in part.named:
                    yield from _readable(part.named[name](client, of_name))


def _readable(found: Iterable[Finding]) -> Iterator[Finding]:
    """Up to the first thing that has another type than it should: a finding of its own, which hides what stands behind it."""
    try:
        yield from found
    except redis.exceptions.ResponseError as error:
        logger.warning("cannot be looked at", error=str(error))


def asked(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The answers to many commands in one round trip; of one that fails, its error."""
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute(raise_on_error=False))
