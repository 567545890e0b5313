"""Keys: jobs/keys.py is complete. A key that a script or a module spells and the list does not know fails here."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import key_patterns
from jobs.key_patterns import SOME, documented

ROOT = Path(__file__).parents[2]
PART = r"'[^']*'|\w[\w.]*(?:\([^()]*\)|\[[^\]]*\])?"
LUA_KEY = re.compile(rf"'(?:rq|turnstile):[^']*'(?:\s*\.\.\s*(?:{PART}))*")
PYTHON_KEY = re.compile(r"""(["'])((?:rq|turnstile):[^\s"']*)\1""")


def keys_in_lua(text: str) -> Iterator[str]:
    """Each key that a script spells, SOME for what it puts in."""
    for expression in LUA_KEY.findall(re.sub(r"--.*", "", text)):
        parts = re.findall(PART, expression)
        yield "".join(part[1:-1] if part.startswith("'") else SOME for part in parts)


def sources(pattern: str) -> list[Path]:
    return sorted(path for folder in ("jobs", "web", "scheduler") for path in (ROOT / folder).rglob(pattern))


@pytest.mark.parametrize("path", sources("*.lua"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_key_that_a_script_spells_is_documented(path: Path) -> None:
    for key in keys_in_lua(path.read_text()):
        assert key_patterns.of(key), f"{key.replace(SOME, '<...>')} is not in jobs/keys.py"


def test_every_key_that_a_module_spells_is_documented() -> None:
    for path in sources("*.py"):
        if path == ROOT / "jobs/keys.py":
            continue
        for _quote, text in PYTHON_KEY.findall(path.read_text()):
            key = re.sub(r"\*|\{[^}]*\}", SOME, text) + (SOME if text.endswith(":") else "")
            assert key_patterns.of(key), f"{text} in {path.relative_to(ROOT)} is not in jobs/keys.py"


def test_the_scripts_are_really_read() -> None:
    assert set(keys_in_lua("local k = 'turnstile:stats:' .. queue .. ':' .. math.floor(now / 60) -- 'rq:comment'")) == {
        f"turnstile:stats:{SOME}:{SOME}"
    }
    assert list(keys_in_lua("redis.call('X', 'rq:job:' .. ARGV[8], 'owned', 'rq:queues')")) == [f"rq:job:{SOME}", "rq:queues"]
    assert len([key for path in sources("*.lua") for key in keys_in_lua(path.read_text())]) > 50
    assert not key_patterns.of("turnstile:unheard-of")
    assert not key_patterns.of("rq:unheard-of")


@pytest.mark.parametrize("entry", documented(), ids=lambda entry: entry.name)
def test_every_key_says_what_type_it_is_and_who_writes_it(entry: key_patterns.Documented) -> None:
    assert entry.type, f"{entry.name}: {entry.doc!r}"
    assert len(entry.doc.split()) > 4


def test_no_two_entries_stand_for_the_same_key() -> None:
    shapes = [entry.shape for entry in documented()]
    assert len(shapes) == len(set(shapes))
