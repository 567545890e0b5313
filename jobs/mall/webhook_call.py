"""One call of a receiver: signed as Standard Webhooks says (specification 1.0.0), and sent to an address that was judged."""

import base64
import functools
import hashlib
import hmac
import ssl
import time
from dataclasses import dataclass

import httpx

from jobs.errors import ReceiverError
from jobs.mall import receivers
from jobs.mall.receivers import Resolver
from jobs.settings import Settings

CONNECT_TIMEOUT_S = 5.0
MAX_ANSWER = 65_536
MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer; `said` is the beginning of its body when it was not a good one."""

    status: int
    retry_after: str | None
    said: str


def signature(secret: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """A signature of version 1: HMAC-SHA-256 over id, timestamp and body, joined by dots."""
    digest = hmac.digest(secret, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def post(url: httpx.URL, body: bytes, headers: dict[str, str], settings: Settings, resolve: Resolver) -> Answer:
    """One POST to exactly an address that was judged; name and certificate stay those of the URL. No redirects, no proxies.

    Raises ReceiverError, and Permanent for an address that is not allowed.
    """
    timeout_s = settings.webhook_timeout_s
    timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    error: httpx.TransportError | None = None
    for address in receivers.addresses(url.host, settings, resolve)[:2]:
        pinned = url.copy_with(host=address)
        try:
            # A client for each: a shared one would lend a connection to another name at the same address.
            with (
                httpx.Client(verify=_certificates(), trust_env=False, timeout=timeout) as client,
                client.stream(
                    "POST",
                    pinned,
                    content=body,
                    headers={**headers, "Host": url.netloc.decode(), "Accept-Encoding": "identity"},
                    extensions={"sni_hostname": url.raw_host.decode()},
                ) as answer,
            ):
                said = "" if answer.is_success else _beginning(answer, time.monotonic() + timeout_s)
                return Answer(answer.status_code, answer.headers.get("Retry-After"), said or answer.reason_phrase)
        except (httpx.ConnectError, httpx.ConnectTimeout) as refused:
            error = refused  # of two addresses, one may be out of our reach
        except httpx.TransportError as broken:
            error = broken
            break
    raise ReceiverError(f"{type(error).__name__}: {error}") from error


def _beginning(answer: httpx.Response, deadline: float) -> str:
    """The beginning of a body, of whatever length and however slowly it comes."""
    found = b""
    for chunk in answer.iter_raw():
        found += chunk
        if len(found) >= MAX_ANSWER or time.monotonic() > deadline:
            break
    return " ".join(found[:MAX_ANSWER].decode(errors="replace").split())[:MAX_SHOWN]


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()
