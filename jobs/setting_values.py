"""The values that settings can have, and how each kind is read from text: a reader raises ValueError with the reason."""

import base64
import hashlib
import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MIN_KEY_LENGTH = 16
MIN_PEPPER_LENGTH = 32
QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MAX_SIZE = 1_000
"""How many jobs a worker can be told to run at once."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One client's key, held as its SHA-256 (hex)."""

    client: str
    digest: str


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """Signs the webhooks about a client's orders; without a client, of all clients that have none of their own."""

    client: str
    secret: bytes = field(repr=False)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Range:
    """How many jobs a worker may run at once. Raises ValueError when there is no such number."""

    min: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.max <= MAX_SIZE:
            raise ValueError(f"must be a number, or two as in 1..8, between 1 and {MAX_SIZE}, the smaller one first")

    def __str__(self) -> str:
        return f"{self.min}..{self.max}"

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Reads `1..8`, or `4` for `4..4`. Raises ValueError."""
        found = re.fullmatch(r"([0-9]{1,9})(?:\.\.([0-9]{1,9}))?", text.strip())
        return cls(int(found[1]), int(found[2] or found[1])) if found else cls(0, 0)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`burst` calls of a client within `window_s`; `name` is what it limits: entries, orders, or * for all the rest."""

    name: str
    burst: int
    window_s: int

    @property
    def per_s(self) -> float:
        """How many a second in the long run."""
        return self.burst / self.window_s

    def __str__(self) -> str:
        return f"{self.burst} {'calls' if self.name == '*' else self.name} in {self.window_s} s"


def hash_api_key(key: str) -> str:
    """SHA-256 of an API key (hex). Keys are long and random, so a plain hash is enough to store one."""
    return hashlib.sha256(key.encode()).hexdigest()


def number(low: float, high: float) -> Callable[[str], float]:
    """A number within the bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("a number is needed") from None
        if not low <= value <= high:
            raise ValueError(f"must lie between {low:.12g} and {high:.12g}")
        return value

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number within the bounds."""
    within = number(low, high)

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text):
            raise ValueError("a whole number is needed")
        return int(within(text))

    return parse


def choice(*names: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return parse


def boolean(text: str) -> bool:
    """0 or 1."""
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"


def redis_url(text: str) -> str:
    """A URL that redis-py can connect to."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  raises ValueError on a port that is no number
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must start with redis://, rediss:// or unix://")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("a unix:// URL needs the path of the socket")
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError("the host is missing")
    return text


def http_url(text: str) -> str:
    """An http:// or https:// URL with a host, without a slash at its end."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    return text.rstrip("/")


def time_zone(text: str) -> str:
    """The name of an IANA time zone."""
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not an IANA time zone such as Europe/Berlin") from None
    return text


def api_keys(text: str) -> tuple[ApiKey, ...]:
    """`client:key` pairs separated by commas; a key is plain (16 characters or more) or `sha256$<hex>`."""
    keys = []
    for number, item in enumerate(text.split(","), start=1):
        client, _, key = item.strip().rpartition(":")
        if key.startswith("sha256$"):
            digest = key.removeprefix("sha256$")
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"entry {number}: sha256$ must be followed by 64 hexadecimal digits")
        elif len(key) < MIN_KEY_LENGTH:
            raise ValueError(f"entry {number}: a key has at least {MIN_KEY_LENGTH} characters")
        else:
            digest = hash_api_key(key)
        keys.append(ApiKey(client or f"client{number}", digest))
    return tuple(keys)


def pepper(text: str) -> str:
    if len(text) < MIN_PEPPER_LENGTH:
        raise ValueError(f"at least {MIN_PEPPER_LENGTH} random characters are needed")
    return text


def webhook_secrets(text: str) -> tuple[WebhookSecret, ...]:
    """Comma-separated `whsec_<base64 of 24 to 64 bytes>`, each with `client:` in front if it is not for all."""
    secrets = []
    for number, item in enumerate(text.split(","), start=1):
        client, _, encoded = item.strip().rpartition(":")
        try:
            secret = base64.b64decode(encoded.removeprefix("whsec_"), validate=True)
        except ValueError:
            secret = b""
        if not encoded.startswith("whsec_") or not 24 <= len(secret) <= 64:
            raise ValueError(f"entry {number}: whsec_ and the base64 of 24 to 64 bytes are needed")
        secrets.append(WebhookSecret(client, secret))
    if all(secret.client for secret in secrets):
        raise ValueError("one entry without a client is needed, for all others")
    return tuple(secrets)


def networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(item.strip()) for item in text.split(","))


def rate_limits(text: str) -> tuple[RateLimit, ...]:
    """`name=number/unit` pairs separated by commas, as in entries=2000/s,orders=600/m,*=100/s."""
    limits = {}
    for number, item in enumerate(text.split(","), start=1):
        found = re.fullmatch(r"(entries|orders|\*)=([1-9][0-9]{0,8})/([smh])", item.strip())
        if found is None:
            raise ValueError(f"entry {number}: must read entries=, orders= or *= and a number a s, m or h, as in orders=50/s")
        limits[found[1]] = RateLimit(found[1], int(found[2]), {"s": 1, "m": 60, "h": 3_600}[found[3]])
    return tuple(limits.values())


def routes(text: str) -> tuple[tuple[str, str], ...]:
    """`task=queue` pairs separated by commas; the task's name may be a glob such as reports.*."""
    routes = []
    for number, item in enumerate(text.split(","), start=1):
        pattern, equals, queue = (part.strip() for part in item.partition("="))
        if not equals or not pattern or not QUEUE_NAME.fullmatch(queue):
            raise ValueError(f"entry {number}: must read task=queue, as in reports.*=slow")
        routes.append((pattern, queue))
    return tuple(routes)
