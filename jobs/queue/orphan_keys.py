"""Keys that jobs/keys.py does not list, that have another type than it says, or no expiry where it says that all have one."""

from collections.abc import Iterator, Sequence

import redis

from jobs import key_patterns
from jobs.queue.orphans import Finding, Kind, Part, Seen
from jobs.queue.script import beside

STRANGE = beside(__file__, "strange_key")
EXPIRY = beside(__file__, "mend_expiry")
UNKNOWN = Kind("key-unknown", "a key that jobs/keys.py does not list", "", STRANGE)
OTHER_TYPE = Kind("key-type", "a key of another type than jobs/keys.py says", "", STRANGE)
FOR_EVER = Kind("key-for-ever", "a key without the expiry that all of its kind have", "gives it one", EXPIRY)


def _keys(_client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for seen in page:
        if seen.entry is None:
            yield Finding(UNKNOWN, (seen.name,))
        elif seen.type != seen.entry.type and not seen.entry.any_type:
            yield Finding(OTHER_TYPE, (seen.name,), tuple(entry.type for entry in key_patterns.of(seen.name)))
        if seen.entry and seen.ttl_s == -1 and seen.entry.name in key_patterns.EXPIRING:
            yield Finding(FOR_EVER, (seen.name,), (key_patterns.EXPIRING[seen.entry.name],))


PART = Part(every=[_keys])
