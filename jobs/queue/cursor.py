"""Pages through a sorted set, highest score first, by a cursor that survives additions and removals: `<score>:<member>`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import redis

from jobs.errors import InvalidField

STEP = 250
CURSOR = re.compile(r"[+-]?(inf|[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,2})?):[^\x00-\x1f\x7f]{0,300}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the last page ended. `score` is text that Redis takes."""

    score: str = "+inf"
    member: str = ""

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Reads a cursor from a request; None is the beginning. Raises InvalidField."""
        if text is None:
            return cls()
        if not CURSOR.fullmatch(text):
            raise InvalidField("cursor", "not a cursor of this list")
        score, _, member = text.partition(":")
        return cls(repr(float(score)), member)

    def after(self, batch: list[tuple[bytes, float]]) -> list[tuple[str, str]]:
        """Members of a batch that come after the cursor, each with the cursor that stands on it.

        The batch starts at the cursor's score; equal scores come in falling order of their members.
        """
        marked = [(member.decode(), repr(at)) for member, at in batch]
        return [(name, f"{at}:{name}") for name, at in marked if not self.member or at != self.score or name < self.member]


def walk(client: redis.Redis, key: str, cursor: str | None) -> Iterator[tuple[str, str]]:
    """Members after the cursor, each with the cursor that stands on it. Raises InvalidField for a cursor that is none.

    Goes on from the last one, not by counting: what comes and goes in the meantime shifts nothing.
    """
    start, passed = Cursor.parse(cursor), 0
    while True:
        batch = client.zrange(key, start.score, "-inf", byscore=True, desc=True, offset=passed, num=STEP, withscores=True)
        marked = start.after(batch)
        yield from marked
        if len(batch) < STEP:
            return
        start, passed = (Cursor.parse(marked[-1][1]), 0) if marked else (start, passed + STEP)
