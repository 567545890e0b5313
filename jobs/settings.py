"""The settings of every process, read once from the environment.

This is the only module that reads `os.environ`. Variables of the platform (REDIS_URL, PORT,
HOST, WEB_CONCURRENCY, CARRIER_URL) keep their usual names; all others start with TURNSTILE_,
and a name with that prefix that is not listed here stops the start.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobs.errors import BadSettings, SettingProblem

PREFIX = "TURNSTILE_"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIN_KEY_LENGTH = 16
LOG_FORMATS = ("auto", "console", "json")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One client's key, held as its SHA-256 (hex)."""

    client: str
    digest: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default. Durations are float seconds, sizes bytes."""

    redis_url: str | None = None
    port: int = 8000
    host: str = "127.0.0.1"
    web_concurrency: int = 1
    carrier_url: str = "http://127.0.0.1:8010"
    data_dir: Path = Path(".turnstile")
    api_keys: tuple[ApiKey, ...] = ()
    timezone: str = "UTC"
    samples: bool = False
    log_level: str = "INFO"
    log_format: str = "auto"
    max_body_bytes: int = 1_048_576
    # workers
    lease_s: float = 10.0
    drain_s: float = 20.0
    result_ttl_s: int = 500
    step_max_attempts: int = 8
    backoff_base_s: float = 1.0
    backoff_cap_s: float = 300.0
    # entries
    entry_max_age_s: float = 86_400.0
    entry_max_ahead_s: float = 60.0
    count_batch: int = 2_000
    minutes_keep_days: int = 35
    # orders
    pick_batch: int = 100
    idempotency_ttl_s: int = 2 * 86_400
    order_keep_days: int = 90
    max_countdown_s: float = 30 * 86_400.0
    carrier_timeout_s: float = 10.0
    # admission
    max_queue_age_s: float = 300.0
    max_memory_share: float = 0.9
    # scheduler
    reconcile_after_s: float = 10.0
    hirefire_token: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads the environment. Raises BadSettings that names every unusable variable at once."""
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        problems: list[SettingProblem] = []
        for key in sorted(env):
            parse = PARSERS.get(key)
            if parse is None:
                if key.startswith(PREFIX):
                    problems.append(SettingProblem(key, env[key], f"unknown setting{_did_you_mean(key)}"))
                continue
            if env[key] == "":
                continue
            try:
                values[_field_name(key)] = parse(env[key])
            except ValueError as error:
                shown = "***" if key in SECRETS else env[key]
                problems.append(SettingProblem(key, shown, str(error)))
        if values.get("api_keys"):
            values.setdefault("host", "0.0.0.0")  # noqa: S104  keys are configured
        problems += _contradictions(values, refused={problem.key for problem in problems})
        if problems:
            raise BadSettings(problems)
        return cls(**values)

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The mall's time zone: decides which day an entry belongs to."""
        return zoneinfo.ZoneInfo(self.timezone)


@functools.cache
def current() -> Settings:
    """The settings of this process."""
    return Settings.from_env()


def hash_api_key(key: str) -> str:
    """SHA-256 of an API key (hex). Keys are long and random, so a plain hash is enough to store one."""
    return hashlib.sha256(key.encode()).hexdigest()


def _contradictions(values: Mapping[str, Any], *, refused: set[str]) -> list[SettingProblem]:
    """Values that are good alone but not together; the variable that was set is the one that is named."""
    found = []
    host = values.get("host", DEFAULTS["host"])
    if host not in LOOPBACK and not values.get("api_keys") and "TURNSTILE_API_KEYS" not in refused:
        found.append(SettingProblem("HOST", host, "only loopback is served until TURNSTILE_API_KEYS is set"))
    base_s = values.get("backoff_base_s", DEFAULTS["backoff_base_s"])
    cap_s = values.get("backoff_cap_s", DEFAULTS["backoff_cap_s"])
    if cap_s < base_s:
        key, value = ("CAP", cap_s) if "backoff_cap_s" in values else ("BASE", base_s)
        reason = f"the cap ({cap_s:g}) must not lie below the base ({base_s:g})"
        found.append(SettingProblem(f"TURNSTILE_BACKOFF_{key}_S", f"{value:g}", reason))
    return found


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text):
            raise ValueError("a whole number is needed")
        if not low <= int(text) <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return int(text)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("a number is needed") from None
        if not low <= value <= high:
            raise ValueError(f"must lie between {low:g} and {high:g}")
        return value

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


PARSERS: dict[str, Callable[[str], Any]] = {
    "REDIS_URL": _redis_url,
    "PORT": _integer(0, 65_535),
    "HOST": str,
    "WEB_CONCURRENCY": _integer(1, 64),
    "CARRIER_URL": _http_url,
    "TURNSTILE_DATA_DIR": Path,
    "TURNSTILE_API_KEYS": _api_keys,
    "TURNSTILE_TIMEZONE": _timezone,
    "TURNSTILE_SAMPLES": _boolean,
    "TURNSTILE_LOG_LEVEL": _choice(*LOG_LEVELS),
    "TURNSTILE_LOG_FORMAT": _choice(*LOG_FORMATS),
    "TURNSTILE_MAX_BODY_BYTES": _integer(1_024, 1 << 30),
    "TURNSTILE_LEASE_S": _number(1, 3_600),
    "TURNSTILE_DRAIN_S": _number(0, 3_600),
    "TURNSTILE_RESULT_TTL_S": _integer(0, 10**9),
    "TURNSTILE_STEP_MAX_ATTEMPTS": _integer(1, 1_000),
    "TURNSTILE_BACKOFF_BASE_S": _number(0, 86_400),
    "TURNSTILE_BACKOFF_CAP_S": _number(0, 7 * 86_400),
    "TURNSTILE_ENTRY_MAX_AGE_S": _number(1, 365 * 86_400),
    "TURNSTILE_ENTRY_MAX_AHEAD_S": _number(0, 86_400),
    "TURNSTILE_COUNT_BATCH": _integer(1, 100_000),
    "TURNSTILE_MINUTES_KEEP_DAYS": _integer(2, 3_660),
    "TURNSTILE_PICK_BATCH": _integer(1, 10_000),
    "TURNSTILE_IDEMPOTENCY_TTL_S": _integer(86_400, 10**9),
    "TURNSTILE_ORDER_KEEP_DAYS": _integer(1, 36_600),
    "TURNSTILE_MAX_COUNTDOWN_S": _number(1, 366 * 86_400),
    "TURNSTILE_CARRIER_TIMEOUT_S": _number(0.1, 600),
    "TURNSTILE_MAX_QUEUE_AGE_S": _number(1, 10**9),
    "TURNSTILE_MAX_MEMORY_SHARE": _number(0.1, 1),
    "TURNSTILE_RECONCILE_AFTER_S": _number(1, 86_400),
    "TURNSTILE_HIREFIRE_TOKEN": str,
}
DEFAULTS = {field.name: field.default for field in fields(Settings)}
SECRETS = ("REDIS_URL", "TURNSTILE_API_KEYS", "TURNSTILE_HIREFIRE_TOKEN")


def _field_name(key: str) -> str:
    return key.removeprefix(PREFIX).lower()


def _did_you_mean(key: str) -> str:
    close = difflib.get_close_matches(key, PARSERS, n=1)
    return f"; did you mean {close[0]}?" if close else ""


if {_field_name(key) for key in PARSERS} != {field.name for field in fields(Settings)}:
    raise RuntimeError("settings.py: PARSERS and Settings name different settings")
