"""The audit trail: who did what to what, and when. Kept in Redis, bounded, and in the log."""

import re
import time

import msgspec
import redis

from jobs import keys, log
from jobs.errors import InvalidField

ENTRIES = 10_000
"""About as many are kept, as trail.lua has it."""
STREAM_ID = re.compile(r"(?!0+-0+$)[0-9]{1,19}-[0-9]{1,19}")
logger = log.get("audit")


class Entry(msgspec.Struct, frozen=True):
    """One action. `at` is Unix seconds; `who` an API client's name, `local` without keys, or `cli:<user>`."""

    id: str
    at: float
    what: str
    who: str
    target: str


def record(client: redis.Redis, what: str, *, who: str, target: str) -> None:
    """Notes an action that has no script of its own to note it."""
    entry = {"at": repr(time.time()), "what": what, "who": who, "target": target}
    client.xadd(keys.AUDIT, entry, maxlen=ENTRIES, approximate=True)
    say(what, who=who, target=target)


def say(what: str, *, who: str, target: str) -> None:
    """Logs an action that a script has noted."""
    logger.info("operator", what=what, who=who, target=target)


def page(client: redis.Redis, *, cursor: str | None, limit: int) -> tuple[list[Entry], str | None]:
    """Actions, the newest first, and the cursor of the next page. Raises InvalidField for a cursor that is none."""
    if cursor is not None and not STREAM_ID.fullmatch(cursor):
        raise InvalidField("cursor", "not a cursor of this list")
    found = client.xrevrange(keys.AUDIT, max=f"({cursor}" if cursor else "+", count=limit)
    entries = []
    for entry_id, fields in found:
        text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        entry = Entry(entry_id.decode(), float(text["at"]), text["what"], text["who"], text["target"])
        entries.append(entry)
    return entries, entries[-1].id if len(entries) == limit else None
