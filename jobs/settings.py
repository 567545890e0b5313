"""The settings of every process, read once from the environment.

This is the only module that reads `os.environ`. Variables of the platform (REDIS_URL, PORT,
HOST, WEB_CONCURRENCY, CARRIER_URL) keep their usual names; all others start with TURNSTILE_,
and a name with that prefix that is not listed here stops the start. A setting is declared once,
in `Settings`: its type, how its variable is read, its default.
"""

import difflib
import functools
import os
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from jobs import crash_points
from jobs import setting_values as values
from jobs.errors import BadSettings, SettingProblem
from jobs.opening import OpeningHours, read_capacity
from jobs.setting_values import MAX_SIZE, ApiKey, Network, Range, RateLimit, WebhookSecret

PREFIX = "TURNSTILE_"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PLATFORM = ("redis_url", "port", "host", "web_concurrency", "carrier_url")
SECRETS = ("REDIS_URL", "TURNSTILE_API_KEYS", "TURNSTILE_KEY_PEPPER", "TURNSTILE_HIREFIRE_TOKEN", "TURNSTILE_WEBHOOK_SECRETS")
KEYED_BY = ("TURNSTILE_API_KEYS", "TURNSTILE_KEY_PEPPER")
CPU_CHILDREN = Range(1, min(os.cpu_count() or 1, MAX_SIZE))
IO_SLOTS = Range(10, 100)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default. Durations are float seconds, sizes bytes."""

    redis_url: Annotated[str | None, values.redis_url] = None
    port: Annotated[int, values.integer(0, 65_535)] = 8000
    host: Annotated[str, str] = "127.0.0.1"
    web_concurrency: Annotated[int, values.integer(1, 64)] = 1
    carrier_url: Annotated[str, values.http_url] = "http://127.0.0.1:8010"
    data_dir: Annotated[Path, Path] = Path(".turnstile")
    api_keys: Annotated[tuple[ApiKey, ...], values.api_keys] = ()
    key_pepper: Annotated[str, values.pepper] = field(default="", repr=False)
    timezone: Annotated[str, values.time_zone] = "UTC"
    samples: Annotated[bool, values.boolean] = False
    log_level: Annotated[str, values.choice("DEBUG", "INFO", "WARNING", "ERROR")] = "INFO"
    log_format: Annotated[str, values.choice("auto", "console", "json")] = "auto"
    max_body_bytes: Annotated[int, values.integer(1_024, 1 << 30)] = 1_048_576
    client_timeout_s: Annotated[float, values.number(0.1, 3_600)] = 10.0
    keep_alive_s: Annotated[float, values.number(0.1, 3_600)] = 15.0
    max_connections: Annotated[int, values.integer(1, 1_000_000)] = 1_000
    # workers
    lease_s: Annotated[float, values.number(2, 3_600)] = 4.0
    drain_s: Annotated[float, values.number(0, 3_600)] = 20.0
    cpu_children: Annotated[Range, Range.parse] = CPU_CHILDREN
    io_slots: Annotated[Range, Range.parse] = IO_SLOTS
    child_max_jobs: Annotated[int, values.integer(0, 10**9)] = 100_000
    child_max_memory_mb: Annotated[int, values.integer(0, 10**6)] = 500
    result_ttl_s: Annotated[int, values.integer(0, 10**9)] = 500
    routes: Annotated[tuple[tuple[str, str], ...], values.routes] = ()
    step_max_attempts: Annotated[int, values.integer(1, 1_000)] = 8
    backoff_base_s: Annotated[float, values.number(0, 86_400)] = 1.0
    backoff_cap_s: Annotated[float, values.number(0, 7 * 86_400)] = 300.0
    # entries
    entry_max_age_s: Annotated[float, values.number(1, 365 * 86_400)] = 86_400.0
    entry_max_ahead_s: Annotated[float, values.number(0, 86_400)] = 60.0
    count_batch: Annotated[int, values.integer(1, 100_000)] = 2_000
    opening_hours: Annotated[OpeningHours | None, OpeningHours] = None
    capacity: Annotated[tuple[tuple[str, int], ...], read_capacity] = ()
    minutes_keep_days: Annotated[int, values.integer(2, 3_660)] = 35
    # orders
    pick_batch: Annotated[int, values.integer(1, 10_000)] = 100
    idempotency_ttl_s: Annotated[int, values.integer(86_400, 10**9)] = 2 * 86_400
    order_keep_days: Annotated[int, values.integer(1, 36_600)] = 90
    max_countdown_s: Annotated[float, values.number(1, 366 * 86_400)] = 30 * 86_400.0
    carrier_timeout_s: Annotated[float, values.number(0.1, 600)] = 10.0
    # webhooks
    webhook_secrets: Annotated[tuple[WebhookSecret, ...], values.webhook_secrets] = ()
    webhook_allow: Annotated[tuple[Network, ...], values.networks] = ()
    webhook_timeout_s: Annotated[float, values.number(0.1, 20)] = 10.0
    # admission
    max_queue_age_s: Annotated[float, values.number(1, 10**9)] = 300.0
    max_memory_share: Annotated[float, values.number(0.1, 1)] = 0.9
    rate_limits: Annotated[tuple[RateLimit, ...], values.rate_limits] = ()
    # scheduler
    dead_letters_max: Annotated[int, values.integer(1, 10**9)] = 100_000
    dead_letters_max_age_s: Annotated[float, values.number(0, 10**9)] = 0.0
    reconcile_after_s: Annotated[float, values.number(1, 86_400)] = 10.0
    hirefire_token: Annotated[str, str] = ""
    # tests
    crash_at: Annotated[crash_points.CrashAt | None, crash_points.parse] = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Reads the environment. Raises BadSettings that names every unusable variable at once."""
        env = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        problems = []
        for key, text in sorted(env.items()):
            try:
                if key in PARSERS and text:
                    given[key.removeprefix(PREFIX).lower()] = PARSERS[key](text)
                elif key.startswith(PREFIX) and key not in PARSERS:
                    close = difflib.get_close_matches(key, PARSERS, n=1)
                    raise ValueError(f"unknown setting; did you mean {close[0]}?" if close else "unknown setting")
            except ValueError as error:
                problems.append(SettingProblem(key, "***" if key in SECRETS else text, str(error)))
        if given.get("api_keys") or given.get("key_pepper"):
            given.setdefault("host", "0.0.0.0")  # noqa: S104  keys are configured
        read = cls(**given)
        refused = {problem.key for problem in problems}
        if read.host not in LOOPBACK and not read.asks_for_keys and refused.isdisjoint(KEYED_BY):
            problems.append(SettingProblem("HOST", read.host, f"only loopback is served until {' or '.join(KEYED_BY)} is set"))
        base_s, cap_s = read.backoff_base_s, read.backoff_cap_s
        if cap_s < base_s:  # the variable that was set is the one that is named
            key, value = ("CAP", cap_s) if "backoff_cap_s" in given else ("BASE", base_s)
            reason = f"the cap ({cap_s:g}) must not lie below the base ({base_s:g})"
            problems.append(SettingProblem(f"TURNSTILE_BACKOFF_{key}_S", f"{value:g}", reason))
        if problems:
            raise BadSettings(problems)
        return read

    @property
    def asks_for_keys(self) -> bool:
        """Whether callers need a key; otherwise only this machine is served, and may do everything."""
        return bool(self.api_keys or self.key_pepper)

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
