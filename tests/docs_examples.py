"""The examples of the documents, taken out of them and run. What a fenced block is for stands behind its language:

    python file=PATH    written to that file of a copy of the tree, where workers import it; the same path again is appended
    python              run in order, all of a document in one process and one namespace
    python celery       other software's code: it must compile
    sh run              `python3 -m jobs ...` lines, run in that same process; $name is a variable of the namespace

`python docs_examples.py DOCUMENT` is that process.
"""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import CodeType
from typing import Any

from jobs.__main__ import COMMANDS

FENCE = re.compile(r"^```(\w+)?(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
COMMAND = ["python3", "-m", "jobs"]


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is that of its first line in the document, `use` what stands behind its language."""

    document: Path
    line: int
    language: str
    use: str
    text: str

    def compiled(self) -> CodeType:
        """Its code. Empty lines stand in front, so that a traceback names the line of the document."""
        return compile("\n" * (self.line - 1) + self.text, str(self.document), "exec")


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        yield Block(document, line, found[1] or "", found[2].strip(), found[3])


def write_files(document: Path, tree: Path) -> list[str]:
    """Writes the document's files into a copy of the tree; returns their paths."""
    written: list[str] = []
    for block in blocks(document):
        use, _, path = block.use.partition("file=")
        if block.language == "python" and path and not use:
            place = tree / path
            place.parent.mkdir(exist_ok=True)
            with place.open("a" if path in written else "w", encoding="utf-8") as file:
                file.write(block.text)
            written.append(path)
    return written


def run(document: Path) -> int:
    """Runs the document's examples; returns how many."""
    names: dict[str, Any] = {"__name__": "__main__"}
    done = 0
    for block in blocks(document):
        if (block.language, block.use) == ("python", ""):
            exec(block.compiled(), names)
        elif (block.language, block.use) == ("sh", "run"):
            for line in block.text.splitlines():
                _command(line, names)
        else:
            continue
        done += 1
        print(f"{document.name}:{block.line}: ok", flush=True)
    return done


def _command(line: str, names: dict[str, Any]) -> None:
    words = shlex.split(Template(line).substitute(names), comments=True)
    if words[:3] != COMMAND:
        raise SystemExit(f"{line!r}: only `python3 -m jobs ...` is run here")
    code = importlib.import_module(COMMANDS[words[3]][0]).main(words[4:])
    if code:
        raise SystemExit(f"{line!r} ended with {code}")


if __name__ == "__main__":
    print(f"{run(Path(sys.argv[1]))} examples ran")
