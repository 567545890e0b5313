"""The settings of every process, read once from the environment.

This is the only module that reads `os.environ`. Variables of the platform (REDIS_URL, PORT,
HOST, WEB_CONCURRENCY, CARRIER_URL) keep their usual names; all others start with TURNSTILE_,
and a name with that prefix that is not listed here stops the start. A setting is declared once,
in `Settings`: its type, how its variable is read, its default.
"""

import difflib
import functools
import hashlib
import os
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints
from urllib.parse import urlsplit

from jobs.errors import BadSettings, SettingProblem

PREFIX = "TURNSTILE_"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIN_KEY_LENGTH = 16
PLATFORM = ("redis_url", "port", "host", "web_concurrency", "carrier_url")
QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SECRETS = ("REDIS_URL", "TURNSTILE_API_KEYS", "TURNSTILE_HIREFIRE_TOKEN")
MAX_SIZE = 1_000
"""How many jobs a worker can be told to run at once."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One client's key, held as its SHA-256 (hex)."""

    client: str
    digest: str


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


def hash_api_key(key: str) -> str:
    """SHA-256 of an API key (hex). Keys are long and random, so a plain hash is enough to store one."""
    return hashlib.sha256(key.encode()).hexdigest()


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("a number is needed") from None
        if not low <= value <= high:
            raise ValueError(f"must lie between {low:.12g} and {high:.12g}")
        return value

    return parse


def _integer(low: int, high: int) -> Callable[[str], int]:
    within = _number(low, high)

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text):
            raise ValueError("a whole number is needed")
        return int(within(text))

    return parse


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return parse


def _boolean(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"


def _redis_url(text: str) -> str:
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


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    return text.rstrip("/")


def _timezone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not an IANA time zone such as Europe/Berlin") from None
    return text


def _api_keys(text: str) -> tuple[ApiKey, ...]:
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


def _routes(text: str) -> tuple[tuple[str, str], ...]:
    """`task=queue` pairs separated by commas; the task's name may be a glob such as reports.*."""
    routes = []
    for number, item in enumerate(text.split(","), start=1):
        pattern, equals, queue = (part.strip() for part in item.partition("="))
        if not equals or not pattern or not QUEUE_NAME.fullmatch(queue):
            raise ValueError(f"entry {number}: must read task=queue, as in reports.*=slow")
        routes.append((pattern, queue))
    return tuple(routes)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default. Durations are float seconds, sizes bytes."""

    redis_url: Annotated[str | None, _redis_url] = None
    port: Annotated[int, _integer(0, 65_535)] = 8000
    host: Annotated[str, str] = "127.0.0.1"
    web_concurrency: Annotated[int, _integer(1, 64)] = 1
    carrier_url: Annotated[str, _http_url] = "http://127.0.0.1:8010"
    data_dir: Annotated[Path, Path] = Path(".turnstile")
    api_keys: Annotated[tuple[ApiKey, ...], _api_keys] = ()
    timezone: Annotated[str, _timezone] = "UTC"
    samples: Annotated[bool, _boolean] = False
    log_level: Annotated[str, _choice("DEBUG", "INFO", "WARNING", "ERROR")] = "INFO"
    log_format: Annotated[str, _choice("auto", "console", "json")] = "auto"
    max_body_bytes: Annotated[int, _integer(1_024, 1 << 30)] = 1_048_576
    # workers
    lease_s: Annotated[float, _number(2, 3_600)] = 4.0
    drain_s: Annotated[float, _number(0, 3_600)] = 20.0
    cpu_children: Annotated[Range, Range.parse] = Range(1, min(os.cpu_count() or 1, MAX_SIZE))
    io_slots: Annotated[Range, Range.parse] = Range(10, 100)
    child_max_jobs: Annotated[int, _integer(0, 10**9)] = 100_000
    child_max_memory_mb: Annotated[int, _integer(0, 10**6)] = 500
    result_ttl_s: Annotated[int, _integer(0, 10**9)] = 500
    routes: Annotated[tuple[tuple[str, str], ...], _routes] = ()
    step_max_attempts: Annotated[int, _integer(1, 1_000)] = 8
    backoff_base_s: Annotated[float, _number(0, 86_400)] = 1.0
    backoff_cap_s: Annotated[float, _number(0, 7 * 86_400)] = 300.0
    # entries
    entry_max_age_s: Annotated[float, _number(1, 365 * 86_400)] = 86_400.0
    entry_max_ahead_s: Annotated[float, _number(0, 86_400)] = 60.0
    count_batch: Annotated[int, _integer(1, 100_000)] = 2_000
    minutes_keep_days: Annotated[int, _integer(2, 3_660)] = 35
    # orders
    pick_batch: Annotated[int, _integer(1, 10_000)] = 100
    idempotency_ttl_s: Annotated[int, _integer(86_400, 10**9)] = 2 * 86_400
    order_keep_days: Annotated[int, _integer(1, 36_600)] = 90
    max_countdown_s: Annotated[float, _number(1, 366 * 86_400)] = 30 * 86_400.0
    carrier_timeout_s: Annotated[float, _number(0.1, 600)] = 10.0
    # admission
    max_queue_age_s: Annotated[float, _number(1, 10**9)] = 300.0
    max_memory_share: Annotated[float, _number(0.1, 1)] = 0.9
    # scheduler
    dead_letters_max: Annotated[int, _integer(1, 10**9)] = 100_000
    dead_letters_max_age_s: Annotated[float, _number(0, 10**9)] = 0.0
    reconcile_after_s: Annotated[float, _number(1, 86_400)] = 10.0
    hirefire_token: Annotated[str, str] = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Reads the environment. Raises BadSettings that names every unusable variable at once."""
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        problems = []
        for key, text in sorted(env.items()):
            try:
                if key in PARSERS and text:
                    values[key.removeprefix(PREFIX).lower()] = PARSERS[key](text)
                elif key.startswith(PREFIX) and key not in PARSERS:
                    close = difflib.get_close_matches(key, PARSERS, n=1)
                    raise ValueError(f"unknown setting; did you mean {close[0]}?" if close else "unknown setting")
            except ValueError as error:
                problems.append(SettingProblem(key, "***" if key in SECRETS else text, str(error)))
        if values.get("api_keys"):
            values.setdefault("host", "0.0.0.0")  # noqa: S104  keys are configured
        read = cls(**values)
        refused = {problem.key for problem in problems}
        if read.host not in LOOPBACK and not read.api_keys and "TURNSTILE_API_KEYS" not in refused:
            problems.append(SettingProblem("HOST", read.host, "only loopback is served until TURNSTILE_API_KEYS is set"))
        base_s, cap_s = read.backoff_base_s, read.backoff_cap_s
        if cap_s < base_s:  # the variable that was set is the one that is named
            key, value = ("CAP", cap_s) if "backoff_cap_s" in values else ("BASE", base_s)
            reason = f"the cap ({cap_s:g}) must not lie below the base ({base_s:g})"
            problems.append(SettingProblem(f"TURNSTILE_BACKOFF_{key}_S", f"{value:g}", reason))
        if problems:
            raise BadSettings(problems)
        return read

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The mall's time zone: decides which day an entry belongs to."""
        return zoneinfo.ZoneInfo(self.timezone)


PARSERS: dict[str, Callable[[str], Any]] = {
    name.upper() if name in PLATFORM else PREFIX + name.upper(): hint.__metadata__[0]
    for name, hint in get_type_hints(Settings, include_extras=True).items()
}
"""How each variable is read, by its name in the environment."""


@functools.cache
def current() -> Settings:
    """The settings of this process."""
    return Settings.from_env()
