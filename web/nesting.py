"""How deep a JSON body nests, told without parsing it.

The parser's own limit is the stack that is left, which differs between the web, a worker and a page: what one of them
could just read, another could not. Ours is far below that.
"""

import re
from itertools import accumulate

MAX_DEPTH = 100
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # the end may be missing, so that no text is looked through twice
BRACKETS = b"[]{}"
STEPS = bytes.maketrans(BRACKETS, b"\x01\xff\x01\xff")  # one deeper, one back
OTHERS = bytes(byte for byte in range(256) if byte not in BRACKETS)


def is_too_deep(body: bytes) -> bool:
    """Whether arrays and objects are nested more than MAX_DEPTH deep; what is not JSON may be called either."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    steps = memoryview(STRING.sub(b"", body).translate(STEPS, OTHERS)).cast("b")
    return max(accumulate(steps), default=0) > MAX_DEPTH
