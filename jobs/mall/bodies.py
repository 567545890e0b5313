"""Reading a body a second time, when its numbers were not what the type wanted: to JSON, 5.0 is the whole number 5."""

from typing import Any

import msgspec

EXACT = 2.0**53
"""Below it a float is every whole number."""


def whole(text: str) -> float:
    """A number with a point or an exponent; an int when that is what it is worth."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < EXACT else number


_decoder = msgspec.json.Decoder(float_hook=whole)


def decode_again(body: bytes | memoryview) -> Any:
    """The body without a type. Raises msgspec.DecodeError."""
    return _decoder.decode(body)
