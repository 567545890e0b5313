"""jobs/keys.py read as what it is: the list of every Redis key. What it does not list, the tests refuse."""

import ast
import inspect
import re
from dataclasses import dataclass

from jobs import keys

SOME = "\x00"
"""Stands for whatever a key's function puts into it."""
TYPES = {"hash": "hash", "list": "list", "set": "set", "zset": "zset", "string": "string", "stream": "stream", "bitmap": "string"}


@dataclass(frozen=True, slots=True)
class Documented:
    """A key, or all keys of one kind: `shape` holds SOME where they differ."""

    name: str
    shape: str
    doc: str

    @property
    def type(self) -> str:
        """The Redis type that its documentation names first, or nothing."""
        found = re.search(rf"\b({'|'.join(TYPES)})\b", re.sub(r"`[^`]*`", "", self.doc))
        return TYPES[found.group()] if found else ""

    def matches(self, key: str) -> bool:
        """Whether the key is one of these."""
        return re.fullmatch(re.escape(self.shape).replace(re.escape(SOME), ".+"), key, re.DOTALL) is not None


def documented() -> list[Documented]:
    """Everything that jobs/keys.py lists."""
    found = []
    body = ast.parse(inspect.getsource(keys)).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            shape = getattr(keys, node.name)(*(SOME for _ in node.args.args))
            found.append(Documented(node.name, shape, ast.get_docstring(node) or ""))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            said = following.value if isinstance(following, ast.Expr) else None
            doc = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
            key = getattr(keys, name)
            shape = key(SOME) if callable(key) else key + (SOME if name.endswith("_PREFIX") else "")
            found.append(Documented(name, shape, doc))
    return found


def of(key: str) -> list[Documented]:
    """What the list says about a key, the most exact first; empty for a key that it does not know."""
    fitting = [entry for entry in documented() if entry.matches(key)]
    return sorted(fitting, key=lambda entry: len(entry.shape.replace(SOME, "")), reverse=True)
