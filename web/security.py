"""Who may: API keys, and no change by a page of another origin.

Pure ASGI middleware. Without keys the web binds to loopback only, and everybody there may do everything.
"""

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.settings import LOOPBACK, ApiKey, hash_api_key
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
        refused = self._refusal(scope) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, request = Headers(scope=scope), Request(scope)
        if scope["method"] not in SAFE_METHODS and _is_cross_origin(headers):
            return problem(request, 403, "a page of another origin may change nothing here")
        if not self._keys:
            # A page could name its own host after 127.0.0.1 and so be of the same origin (DNS rebinding).
            local = _is_local(headers.get("host", ""))
            return None if local else problem(request, 403, "without API keys only requests to localhost are answered")
        if scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_PREFIXES):
            return None
        client = client_of(presented_key(headers), self._keys)
        if client is None:
            detail = "send `Authorization: Bearer <key>`; browsers may give the key as the password"
            return problem(request, 401, detail, headers={"WWW-Authenticate": CHALLENGE})
        scope["client_name"] = client
        return None


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


def _is_local(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname
    return name is None or name in LOOPBACK
