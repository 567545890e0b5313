"""Who may: API keys with scopes, signed requests of devices, and no change by a page of another origin.

Pure ASGI middleware around everything. Without keys the web binds to loopback only, and everybody there may do everything.
There is no limit on wrong keys: one that we did not make is told without Redis, and 256 random bits cannot be guessed, while
a limit by address would lock out those who share it.
"""

import base64
import binascii
import functools
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import redis.exceptions
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.access.scopes import Scope as Need
from jobs.access.signatures import BadSignature, Claim
from jobs.settings import LOOPBACK
from web.keyring import Grant, Keyring
from web.operation import SAFE_METHODS, Operation
from web.problems import on_redis, problem
from web.rules import Rules

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="turnstile", Basic realm="turnstile"'}
HINT = "send `Authorization: Bearer <key>`; browsers may give the key as the password"
ONLY_ENTRIES = frozenset({Need.ENTRIES})
UNUSUAL = frozenset({b"origin", b"sec-fetch-site", b"webhook-signature", b"content-encoding"})
Headers = dict[bytes, bytes]


class Denied(Exception):
    """Raised when a request is not let through."""

    def __init__(self, status: int, detail: str, name: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.name = status, name


class Security:
    """Lets a request through with `client_name` in its scope, or answers it. Without a keyring no keys are asked for."""

    def __init__(
        self, app: ASGIApp, keyring: Keyring | None = None, operations: Sequence[Operation] = (), max_body_bytes: int = 0
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._rules = Rules(operations)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                receive = await self._admit(scope, receive)
            except Denied as denied:
                challenge = CHALLENGE if denied.status == 401 else None
                app = problem(Request(scope), denied.status, str(denied), name=denied.name, headers=challenge)
            except redis.exceptions.RedisError as error:
                app = await on_redis(Request(scope), error)
        await app(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        headers: Headers = dict(scope["headers"])
        method: str = scope["method"]
        if method not in SAFE_METHODS and (b"origin" in headers or b"sec-fetch-site" in headers) and _is_cross_origin(headers):
            raise Denied(403, "a page of another origin may change nothing here")
        if self._keyring is None:
            # A page could name its own host after 127.0.0.1 and so be of the same origin (DNS rebinding).
            if not _is_local(headers.get(b"host", b"").decode("latin-1")):
                raise Denied(403, "without API keys only requests to localhost are answered")
            return receive
        needs = self._rules.needs(method, scope["path"])
        if not needs:
            return receive
        if b"webhook-signature" in headers:
            grant, receive = await self._of_device(self._keyring, scope, receive, headers, once=needs != ONLY_ENTRIES)
        else:
            found = await self._keyring.of_key(presented_key(headers))
            if found is None:
                raise Denied(401, HINT)
            grant = found
        if grant.scopes.isdisjoint(needs):
            wanted = " or ".join(sorted(needs))
            raise Denied(403, f"the key of {grant.client} has not the scope {wanted}", "missing-scope")
        scope["client_name"] = grant.client
        return receive

    async def _of_device(
        self, keyring: Keyring, scope: Scope, receive: Receive, headers: Headers, *, once: bool
    ) -> tuple[Grant, Receive]:
        key_id = headers.get(b"webhook-key", b"")
        said = (headers.get(name, b"") for name in (b"webhook-id", b"webhook-timestamp", b"webhook-signature"))
        claim = Claim(*said)
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        try:
            claim.check_time(time.time())
            device = await keyring.of_device(key_id)
            if device is None:
                raise Denied(401, "webhook-key is not the id of a device's key")
            grant, secret = device
            body = await self._read(receive, headers)
            claim.check(secret, scope["method"], target, body)
        except BadSignature as error:
            raise Denied(401, str(error)) from None
        # An event carries its own id and counts once however often it comes: entries need no round trip for this.
        if once:
            ttl_s = claim.expires_in_s(time.time())
            if not await keyring.take_once(key_id.decode("latin-1"), claim.id.decode(), ttl_s):
                raise Denied(401, "this signed request has come before: a repeated one needs a webhook-id of its own", "replayed")
        return grant, _replay(body, receive)

    async def _read(self, receive: Receive, headers: Headers) -> bytes:
        too_large = Denied(413, f"a signed body may have {self._max_body_bytes} bytes")
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._max_body_bytes:
            raise too_large
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Denied(408, "the client went away before the body's end")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_body_bytes:
                raise too_large
        return bytes(body)


def told_at_once(headers: Headers, keyring: Keyring | None, needs: frozenset[Need]) -> str | None:
    """The client, "" without keys, of a request that `Security` would let through; None where that takes a closer look."""
    if not UNUSUAL.isdisjoint(headers):
        return None
    if keyring is None:
        return "" if _is_local(headers.get(b"host", b"").decode("latin-1")) else None
    grant = keyring.known(presented_key(headers))
    return None if grant is None or grant.scopes.isdisjoint(needs) else grant.client


def presented_key(headers: Headers) -> bytes:
    """The key that a request carries: bearer token, X-API-Key, or the password of HTTP Basic; empty for none."""
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return value.strip()
    if scheme == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return headers.get(b"x-api-key", b"")


def _is_cross_origin(headers: Headers) -> bool:
    if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host", b"")


@functools.lru_cache(maxsize=64)
def _is_local(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname
    return name is None or name in LOOPBACK


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
