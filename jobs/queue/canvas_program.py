"""A canvas compiled: its nodes as texts, numbered breadth first, in the form that canvas.lua describes and reads."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """A job, parts one after the other, or parts side by side."""

    JOB = "j"
    SEQ = "s"
    PAR = "p"


@dataclass(frozen=True, slots=True)
class Node:
    """One node as it is read back. `first` and `count` are its children, nothing for a job; `template` is only a job's."""

    kind: Kind
    parent: int
    first: int
    count: int
    template: int

    @classmethod
    def read(cls, text: bytes) -> "Node":
        """Reads a node's text."""
        kind, parent, one, two = text.split(b" ", 4)[:4]
        if kind == b"j":
            return cls(Kind.JOB, int(parent), 0, 0, int(one))
        return cls(Kind(kind.decode()), int(parent), int(one), int(two), 0)


@dataclass(slots=True)
class Program:
    """The texts of a canvas, ready to be stored: its nodes, and what all members of one task with the same options share."""

    nodes: list[bytes] = field(default_factory=list)
    templates: list[bytes] = field(default_factory=list)
    n_jobs: int = 0

    def portions(self, size: int) -> Iterator[dict[str, bytes]]:
        """Everything as the fields of one hash, so many at a time."""
        fields = itertools.chain(
            ((str(number), node) for number, node in enumerate(self.nodes)),
            ((f"t{number}", template) for number, template in enumerate(self.templates)),
        )
        while portion := dict(itertools.islice(fields, size)):
            yield portion
