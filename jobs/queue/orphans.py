"""How the doctor works: what looks wrong is looked at again, twice, each time by one script, which also puts it right.

A system at work changes while it is being read, page by page. So a first look only makes suspects. A second later a script looks
at each, and what it sees, it sees in one instant; and a second after that once more, since a stock worker has a job in no
list for some milliseconds. The same script mends, after it has looked: it may be called at any time, beside everything
that runs.
Memory: the ids of all jobs in lists (about 120 bytes each, for the time of the first look) and what is found.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import redis

from jobs import key_patterns, log
from jobs.queue import audit
from jobs.queue.script import Argument, Script, exchange

PAGE = 500
LOOKS = 2
LOOK_AGAIN_S = 1.0
EXAMPLES = 5
MAX_NOTED = 500
logger = log.get("doctor")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which things can be wrong. `mends` is what --fix does; empty: that is left to a person."""

    name: str
    says: str
    mends: str
    settle: Callable[[redis.Redis, Sequence[str], Sequence[Argument]], Any]
    """A script, mostly: says in one instant whether it is wrong, and what its first argument is 1 for also puts it right."""
    then: Callable[[redis.Redis, "Finding"], object] | None = None
    """Puts it right in the place of `settle`, which only says so."""
    last: bool = False
    """Mended after the others, from which it may follow: what owns a job knows better where it belongs than the job's hash."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, or at the first look perhaps wrong: KEYS and further ARGV of its kind's script."""

    kind: Kind
    keys: tuple[str, ...]
    args: tuple[Argument, ...] = ()

    @property
    def target(self) -> str:
        """As it is shown: the key, and what of it."""
        return " ".join(
            [self.keys[0], *(arg for arg in self.args[:1] if isinstance(arg, str) and not self.keys[0].endswith(arg))]
        )


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
    found = list(dict.fromkeys(_wrong(client, _suspects(client, parts, walk))))
    for _ in range(LOOKS):
        if found:
            wait(LOOK_AGAIN_S)
        found = list(_wrong(client, found))
    return found


def mend(client: redis.Redis, found: Sequence[Finding], *, by: str) -> list[Finding]:
    """Mends what can be mended, and returns what is still wrong after that. Noted in the audit trail before it is done."""
    ordered = sorted((finding for finding in found if finding.kind.mends), key=lambda finding: finding.kind.last)
    for kind in dict.fromkeys(finding.kind for finding in ordered):
        targets = [finding.target for finding in ordered if finding.kind is kind]
        audit.record(client, f"doctor {kind.name}", who=by, target=f"{len(targets)}: {', '.join(targets[:EXAMPLES])}"[:MAX_NOTED])
    left, before = list(found), len(found) + 1
    while len(left) < before:  # the reconcilers do a part at a time
        before = len(left)
        for finding in ordered:
            if settle(client, finding, act=True):
                logger.warning("mended", kind=finding.kind.name, target=finding.target)
        left = list(_wrong(client, found))
    return left


def settle(client: redis.Redis, finding: Finding, *, act: bool) -> bool:
    """Whether it is wrong, and with `act` also mends it."""
    kind = finding.kind
    try:
        wrong = bool(kind.settle(client, finding.keys, [int(act and not kind.then), *finding.args]))
        if wrong and act and kind.then:
            kind.then(client, finding)
    except redis.exceptions.ResponseError as error:  # a key of another type, perhaps, which is a finding of its own
        logger.warning("cannot be looked at", kind=kind.name, target=finding.target, error=str(error))
        return False
    return wrong


def _wrong(client: redis.Redis, found: Iterable[Finding]) -> Iterator[Finding]:
    """Those that are wrong now; scripts look at many in one round trip."""
    rest = iter(found)
    while chunk := list(islice(rest, PAGE)):
        scripts = [(finding, finding.kind.settle) for finding in chunk]
        asking = [(script, found.keys, [0, *found.args]) for found, script in scripts if isinstance(script, Script)]
        answers = iter(exchange(client, asking) if asking else [])
        for finding, script in scripts:
            answer = next(answers) if isinstance(script, Script) else settle(client, finding, act=False)
            if isinstance(answer, Exception):
                logger.warning("cannot be looked at", kind=finding.kind.name, target=finding.target, error=str(answer))
            elif answer:
                yield finding


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


def named(client: redis.Redis, suspects: Sequence[Finding], kinds: Sequence[Kind]) -> Iterator[Finding]:
    """Those that are wrong, of the kind that the script which is common to these kinds names."""
    by_name = {kind.name.encode(): kind for kind in kinds}
    asking = [(script, f.keys, [0, *f.args]) for f in suspects if isinstance(script := f.kind.settle, Script)]
    for finding, answer in zip(suspects, exchange(client, asking) if asking else [], strict=True):
        if isinstance(answer, bytes) and answer:
            yield replace(finding, kind=by_name[answer])


def asked(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The answers to many commands in one round trip; of one that fails, its error."""
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute(raise_on_error=False))
