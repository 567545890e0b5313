"""Signatures of devices: HMAC-SHA-256 over id, time, method, path and body, in the headers of Standard Webhooks.

    webhook-id         letters, digits, '_' and '-', 1 to 64; new for every request
    webhook-timestamp  Unix seconds
    webhook-signature  `v1,<base64>`, several separated by blanks
    webhook-key        the id of the device's key, which Standard Webhooks has no header for

What is signed is one line: `<webhook-id>.<webhook-timestamp>.<method>.<path with query as sent>.<SHA-256 of the body, hex>`.
Only the path may hold a dot, so no two requests have the same line.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

WINDOW_S = 300
"""How far the time of a signature may lie from the server's."""
MAX_SIGNATURES = 4
ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
INSTANT = re.compile(rb"[0-9]{1,12}")


class BadSignature(Exception):
    """Raised when a request's signature does not count; says why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about its signature."""

    id: bytes
    timestamp: bytes
    signatures: bytes

    def check_time(self, now: float) -> None:
        """Raises BadSignature, before the body is read, for a form or a time that no body can make good."""
        if not ID.fullmatch(self.id):
            raise BadSignature("webhook-id: 1 to 64 letters, digits, '_' and '-' are needed")
        if not INSTANT.fullmatch(self.timestamp):
            raise BadSignature("webhook-timestamp: Unix seconds are needed")
        if abs(int(self.timestamp) - now) > WINDOW_S:
            raise BadSignature(f"webhook-timestamp lies more than {WINDOW_S} s from this server's time, {now:.0f}")

    def check(self, secret: bytes, method: str, target: bytes, body: bytes) -> None:
        """Raises BadSignature unless one of its signatures is that of the request."""
        expected = sign(secret, self.id, self.timestamp, method, target, body).encode()
        offered = self.signatures.split(b" ")[:MAX_SIGNATURES]
        if not any(hmac.compare_digest(expected, one) for one in offered):
            raise BadSignature("webhook-signature is not that of this request")

    def expires_in_s(self, now: float) -> int:
        """How long the same request could still be sent again."""
        return int(int(self.timestamp) + WINDOW_S - now) + 1


def sign(secret: bytes, message_id: bytes, timestamp: bytes, method: str, target: bytes, body: bytes) -> str:
    """`v1,<base64>`. `secret` are the bytes that stand in base64 behind `whsec_`."""
    line = b".".join((message_id, timestamp, method.encode(), target, hashlib.sha256(body).hexdigest().encode()))
    return "v1," + base64.b64encode(hmac.digest(secret, line, "sha256")).decode()
