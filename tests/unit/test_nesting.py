"""How deep a body nests, against what a parser finds; and no body takes long to look through."""

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from web.nesting import MAX_DEPTH, is_too_deep

TEXT = st.text(st.sampled_from('[]{}"\\a:,\n'), max_size=8)
VALUES = st.recursive(TEXT | st.none(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
SLOW_S = 5.0


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(VALUES, st.integers(0, MAX_DEPTH + 5), st.sampled_from([None, 1, 0]))
def test_it_says_what_a_parser_finds(value: Any, around: int, indent: int | None) -> None:
    for _ in range(around):
        value = [value, "[" * MAX_DEPTH]
    assert is_too_deep(json.dumps(value, indent=indent).encode()) == (depth(value) > MAX_DEPTH)


@given(st.binary(max_size=50), st.integers(0, 120))
def test_no_bytes_break_it(body: bytes, times: int) -> None:
    assert is_too_deep(body * times) in (True, False)


def test_no_body_takes_long() -> None:
    million = 1_000_000
    begun = time.process_time()
    for part in (b"[", b"]", b"[]", b'"', b'\\"', b'"\\', b'""', b'["', b"\\"):
        is_too_deep(b"[" * (MAX_DEPTH + 1) + part * (million // len(part)))
    assert time.process_time() - begun < SLOW_S
