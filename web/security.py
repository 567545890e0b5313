"""Who may: API keys, and no change by a page of another origin.

Pure ASGI middleware. Without keys the web binds to loopback only, and everybody there may do everything.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.settings import ApiKey, hash_api_key
from web.problems import problem

OPEN_PATHS = ("/livez", "/readyz")
OPEN_PREFIXES = ("/hirefire/",)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE = 'Bearer realm="turnstile", Basic realm="turnstile"'


class Security:
    """Lets a request through with `client_name` in its scope, or answers 401 or 403."""

    def __init__(self, app: ASGIApp, keys: tuple[ApiKey, ...]) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] not in SAFE_METHODS and _is_cross_origin(headers):
            answer = problem(Request(scope), 403, "a page of another origin may change nothing here")
            await answer(scope, receive, send)
            return
        if self._keys and scope["path"] not in OPEN_PATHS and not scope["path"].startswith(OPEN_PREFIXES):
            client = client_of(presented_key(headers), self._keys)
            if client is None:
                detail = "send `Authorization: Bearer <key>`; browsers may give the key as the password"
                refused = problem(Request(scope), 401, detail, headers={"WWW-Authenticate": CHALLENGE})
                await refused(scope, receive, send)
                return
            scope["client_name"] = client
        await self._app(scope, receive, send)


def presented_key(headers: Headers) -> str:
    """The key that a request carries: bearer token, X-API-Key, or the password of HTTP Basic; empty for none."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return headers.get("x-api-key", "")


def client_of(key: str, keys: tuple[ApiKey, ...]) -> str | None:
    """The client whose key it is; every known key is compared, in constant time."""
    digest = hash_api_key(key)
    found = None
    for known in keys:
        if hmac.compare_digest(known.digest, digest):
            found = known.client
    return found


def _is_cross_origin(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")
