"""What the head of a request may be. Pure; the parser has already refused what is no HTTP."""

import functools
from collections.abc import Sequence
from urllib.parse import urlsplit

from web.refusal import Refusal

MAX_HEAD_BYTES = 65_536
MAX_TARGET_BYTES = 8_192
MAX_HEADERS = 100
PUNCTUATION = 4
"""Colon, blank and line end of a header."""


def too_large() -> Refusal:
    """More than a head may have."""
    return Refusal(431, f"the head of a request may have {MAX_HEAD_BYTES} bytes")


@functools.lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Whether a Host header says a place and nothing else: it becomes a part of URLs."""
    try:
        parts = urlsplit(b"//" + value)
        return parts.netloc == value and b"@" not in value and parts.port != 0
    except ValueError:
        return False


def check_size(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Counts a head that came together with something else. Raises Refusal."""
    if len(target) + sum(len(name) + len(value) + PUNCTUATION for name, value in headers) > MAX_HEAD_BYTES:
        raise too_large()


def check(version: str, hosts: int, headers: Sequence[tuple[bytes, bytes]], asks_to_upgrade: bool) -> None:
    """What a server behind or before this one might read differently is refused. Raises Refusal."""
    if version not in ("1.1", "1.0"):
        raise Refusal(505, "HTTP/1.1 and HTTP/1.0 are spoken here")
    if hosts != 1 and (hosts or version == "1.1"):
        raise Refusal(400, "exactly one Host header is needed")
    if version == "1.0" and any(name == b"transfer-encoding" for name, _value in headers):
        raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding")
    if asks_to_upgrade and any(name == b"transfer-encoding" or _announces_body(name, value) for name, value in headers):
        raise Refusal(400, "a request that asks for another protocol may have no body")  # the parser would not read it


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"content-length" and value.strip(b" \t0") != b""
