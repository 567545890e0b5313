"""A canvas compiled: its nodes as texts, numbered breadth first, in the form that canvas.lua describes and reads."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


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


@dataclass(frozen=True, slots=True)
class Template:
    """What all members of one task with the same options share. `fields` is the JSON array of their hash without the call."""

    task: str
    path: str
    queue: str
    expires_s: float | None
    fields: str

    def text(self) -> bytes:
        """The template as it is stored."""
        head = msgspec.json.encode([self.path, None, []]).decode().removesuffix("]]")
        expires = "" if self.expires_s is None else repr(self.expires_s)
        return msgspec.json.encode([head, self.queue, expires, self.fields, self.task])


@dataclass(slots=True)
class Program:
    """The nodes of a canvas, ready to be stored."""

    nodes: list[bytes] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)
    n_jobs: int = 0

    def add(self, kind: Kind, parent: int, first: int, count: int) -> None:
        """The next node is a structure with so many children from `first` on."""
        self.nodes.append(f"{kind} {parent} {first} {count}".encode())

    def add_job(self, parent: int, template: int, *, takes: bool, args: bytes, kwargs: bytes) -> None:
        """The next node is a job. `args` are JSON without the brackets."""
        self.nodes.append(b"j %d %d %d %d %s%s" % (parent, template, takes, len(args), args, kwargs))
        self.n_jobs += 1

    def portions(self, size: int) -> Iterator[dict[str, bytes]]:
        """Everything as the fields of one hash, so many at a time."""
        found = {str(number): node for number, node in enumerate(self.nodes)}
        found.update((f"t{number}", template.text()) for number, template in enumerate(self.templates))
        fields = iter(found.items())
        while portion := dict(itertools.islice(fields, size)):
            yield portion
