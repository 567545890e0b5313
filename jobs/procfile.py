"""Reads a Procfile: which processes there are, and how each is started.

A command is started directly, without a shell in between that would have to pass signals on;
a line with pipes, redirections or the like gets one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.errors import InvalidField

LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^}]*))?\})")
SHELL = re.compile(r"[|&;<>()`]")


@dataclass(frozen=True, slots=True)
class Command:
    """One process to start: its words, what it adds to the environment, and whether a shell runs it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    in_shell: bool = False


def parse(text: str) -> dict[str, str]:
    """Process names and their commands, in the order of the file. Raises InvalidField."""
    commands: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise InvalidField(f"Procfile, line {number}", "must read `name: command`")
        if match[1] in commands:
            raise InvalidField(f"Procfile, line {number}", f"there are two processes named {match[1]}")
        commands[match[1]] = match[2]
    return commands


def command(line: str, environ: Mapping[str, str]) -> Command:
    """Fills in `$PORT`, `${PORT}` and `${PORT:-8000}`, and takes leading `NAME=value` words off. Raises InvalidField."""
    if SHELL.search(line):
        return Command(("/bin/sh", "-c", line), {}, True)
    try:
        words = [_expand(word, environ) for word in shlex.split(line)]
    except ValueError as error:
        raise InvalidField("Procfile", f"{line!r}: {error}") from error
    env: dict[str, str] = {}
    while words and (match := ASSIGNMENT.fullmatch(words[0])):
        env[match[1]] = match[2]
        del words[0]
    if not words:
        raise InvalidField("Procfile", f"{line!r} starts nothing")
    return Command(tuple(words), env)


def _expand(word: str, environ: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda match: environ.get(match[1] or match[2]) or match[3] or "", word)
