"""The terminal that a command runs on: who sits there, and what can be printed on it."""

import getpass
from collections.abc import Sequence


def operator() -> str:
    """Who acts, for the audit trail."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return "cli"


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows, of which the first is the head, in columns as wide as their cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def printable(text: str) -> str:
    """Without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
