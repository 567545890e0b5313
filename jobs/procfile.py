"""Reads a Procfile: which processes there are, and how each is started.

No shell stands in between, which would have to pass signals on: a line that needs one says `sh -c '...'`.
"""

import re
import shlex
from collections.abc import Mapping

from jobs.errors import InvalidField

LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")
VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def parse(text: str) -> dict[str, str]:
    """Process names and their commands, in the order of the file. Raises InvalidField."""
    lines: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = LINE.fullmatch(line.strip())
        if match:
            lines[match[1]] = match[2]
        elif line.strip() and not line.lstrip().startswith("#"):
            raise InvalidField(f"Procfile, line {number}", "must read `name: command`")
    return lines


def command(line: str, environ: Mapping[str, str]) -> list[str]:
    """The words of a command, with `$PORT` and `${PORT}` filled in. Raises InvalidField."""
    try:
        return shlex.split(VARIABLE.sub(lambda found: environ.get(found[1].strip("{}"), found[0]), line))
    except ValueError as error:
        raise InvalidField("Procfile", f"{line!r}: {error}") from error
