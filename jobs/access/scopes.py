"""Scopes: what a key is for. Each call of the API names those of which one is needed."""

from collections.abc import Iterable
from enum import StrEnum

from jobs.errors import InvalidField


class Scope(StrEnum):
    """What a key allows its client to do."""

    ENTRIES = "entries"
    ORDERS = "orders"
    OPS_READ = "ops:read"
    OPS_WRITE = "ops:write"
    ADMIN = "admin"


ALL = frozenset(Scope)


def parse(text: str) -> tuple[Scope, ...]:
    """Scopes separated by commas. Raises InvalidField."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ALL:
            raise InvalidField("scopes", f"{name!r} is none; known are {', '.join(Scope)}")
    return tuple(scope for scope in Scope if scope in names)


def granted(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """The scopes and what they include: admin all others, ops:write also ops:read, without which no button can be seen."""
    found = frozenset(scopes)
    if Scope.ADMIN in found:
        return ALL
    return found | {Scope.OPS_READ} if Scope.OPS_WRITE in found else found
