"""jobs/keys.py read as what it is: the list of every Redis key. What it lacks, the tests refuse and the doctor reports."""

import ast
import functools
import inspect
import re
from dataclasses import dataclass

from jobs import keys

SOME = "\x00"
"""Stands for whatever a key's function puts into it."""
OURS = ("rq", "turnstile")
"""What our keys begin with, and a colon; all others in the same Redis belong to somebody else."""
TYPES = {"hash": "hash", "list": "list", "set": "set", "zset": "zset", "string": "string", "stream": "stream", "bitmap": "string"}
MONTH_S = 30 * 86_400
EXPIRING = {
    "worker": 600,
    "stats": 600,
    "rate": 600,
    "rate_limit": 3_600,
    "outcomes": 600,
    "canvas_laid": 600,
    "signed": 600,
    "PROBE": 1,
    "SCHEDULER_LOCK": 10,
    "SAMPLE_CRASH_PREFIX": 3_600,
    "breaker": 86_400,
    "unique": MONTH_S,
    "unreadable": MONTH_S,
    "SEEN_IDS_PREFIX": MONTH_S,
    "SEEN_SEQS_PREFIX": MONTH_S,
    "ALERTS_DAY_PREFIX": MONTH_S,
    "GATES_PREFIX": MONTH_S,
    "IDEMPOTENCY_PREFIX": MONTH_S,
    "REPORTS_PREFIX": 400 * 86_400,
}
"""Keys that are never without an expiry, and the expiry (s) that one is given which was left without. All others have an owner
that trims or deletes them, or expire only when something has ended: what an ended one left behind is found by other means."""


@dataclass(frozen=True, slots=True)
class Documented:
    """A key, or all keys of one kind: `shape` holds SOME where they differ."""

    name: str
    shape: str
    doc: str
    prefix: str
    pattern: re.Pattern[str]
    type: str
    """The Redis type that its documentation names first, or nothing."""
    any_type: bool
    """Whether it may have any other type too."""

    def holds(self, key: str) -> str:
        """What stands in the key where SOME stands in the shape, for a shape with one of them."""
        before, _, after = self.shape.partition(SOME)
        return key[len(before) : len(key) - len(after)]


@functools.cache
def documented() -> tuple[Documented, ...]:
    """Everything that jobs/keys.py lists, the most exact shape first."""
    found = []
    body = ast.parse(inspect.getsource(keys)).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            shape = getattr(keys, node.name)(*(SOME for _ in node.args.args))
            found.append(_entry(node.name, shape, ast.get_docstring(node) or ""))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            said = following.value if isinstance(following, ast.Expr) else None
            doc = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
            key = getattr(keys, name)
            shape = key(SOME) if callable(key) else key + (SOME if name.endswith("_PREFIX") else "")
            found.append(_entry(name, shape, doc))
    return tuple(sorted(found, key=lambda entry: len(entry.shape.replace(SOME, "")), reverse=True))


def _entry(name: str, shape: str, doc: str) -> Documented:
    pattern = re.compile(re.escape(shape).replace(re.escape(SOME), ".+"), re.DOTALL)
    found = re.search(rf"\b({'|'.join(TYPES)})\b", re.sub(r"`[^`]*`", "", doc))
    kind = TYPES[found.group()] if found else ""
    return Documented(name, shape, doc, shape.partition(SOME)[0], pattern, kind, "of any other type" in doc)


def of(key: str) -> list[Documented]:
    """What the list says about a key, the most exact first; empty for a key that it does not know."""
    return [entry for entry in documented() if key.startswith(entry.prefix) and entry.pattern.fullmatch(key)]
