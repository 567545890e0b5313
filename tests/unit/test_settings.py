"""Settings: the environment is read strictly, all its faults are named at once, and no input crashes the reader."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadSettings
from jobs.setting_values import hash_api_key
from jobs.settings import PARSERS, SECRETS, Settings

KEY = "a-long-enough-key"
TEXT = st.text(st.characters(blacklist_characters="\x00"), max_size=60)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_an_empty_value_stands_for_the_default() -> None:
    assert Settings.from_env({"PORT": "", "TURNSTILE_LEASE_S": "", "REDIS_URL": ""}) == Settings()


def test_every_variable_sets_the_field_of_its_name() -> None:
    read = Settings.from_env(
        {
            "REDIS_URL": "redis://h:1/2",
            "PORT": "81",
            "WEB_CONCURRENCY": "3",
            "CARRIER_URL": "https://carrier.example/v2/",
            "TURNSTILE_DATA_DIR": "/data",
            "TURNSTILE_TIMEZONE": "Europe/Berlin",
            "TURNSTILE_SAMPLES": "1",
            "TURNSTILE_LEASE_S": "2.5",
            "TURNSTILE_STEP_MAX_ATTEMPTS": "4",
            "TURNSTILE_HIREFIRE_TOKEN": "t",
        }
    )
    assert (read.redis_url, read.port, read.web_concurrency) == ("redis://h:1/2", 81, 3)
    assert (read.carrier_url, read.data_dir) == ("https://carrier.example/v2", Path("/data"))
    assert (str(read.zone), read.samples, read.lease_s, read.step_max_attempts) == ("Europe/Berlin", True, 2.5, 4)
    assert read.hirefire_token == "t"


def test_all_faults_are_named_at_once_with_key_value_and_reason() -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.from_env({"PORT": "web", "TURNSTILE_LEASE": "3", "TURNSTILE_DRAIN_S": "-1", "HOME": "/root"})
    assert [(problem.key, problem.value, problem.reason) for problem in caught.value.problems] == [
        ("PORT", "web", "a whole number is needed"),
        ("TURNSTILE_DRAIN_S", "-1", "must lie between 0 and 3600"),
        ("TURNSTILE_LEASE", "3", "unknown setting; did you mean TURNSTILE_LEASE_S?"),
    ]
    assert str(caught.value).startswith("The environment has 3 unusable setting(s):\n  PORT='web': a whole number is needed\n")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("REDIS_URL", "http://h", "must start with redis://, rediss:// or unix://"),
        ("REDIS_URL", "redis://", "the host is missing"),
        ("REDIS_URL", "unix://", "a unix:// URL needs the path of the socket"),
        ("REDIS_URL", "redis://h:port", "not a URL"),
        ("PORT", "70000", "must lie between 0 and 65535"),
        ("PORT", "8000.5", "a whole number is needed"),
        ("WEB_CONCURRENCY", "0", "must lie between 1 and 64"),
        ("CARRIER_URL", "ftp://h", "must be an http:// or https:// URL"),
        ("TURNSTILE_TIMEZONE", "Berlin", "not an IANA time zone"),
        ("TURNSTILE_TIMEZONE", "../../etc/passwd", "not an IANA time zone"),
        ("TURNSTILE_SAMPLES", "yes", "must be 0 or 1"),
        ("TURNSTILE_LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR"),
        ("TURNSTILE_LEASE_S", "nan", "must lie between 2 and 3600"),
        ("TURNSTILE_LEASE_S", "inf", "must lie between 2 and 3600"),
        ("TURNSTILE_LEASE_S", "soon", "a number is needed"),
        ("TURNSTILE_API_KEYS", "shop:short", "entry 1: a key has at least 16 characters"),
        ("TURNSTILE_API_KEYS", f"shop:{KEY},b:sha256$12", "entry 2: sha256$ must be followed by 64 hexadecimal digits"),
    ],
)
def test_a_bad_value_is_refused_with_its_reason(key: str, value: str, reason: str) -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.from_env({key: value})
    [problem] = caught.value.problems
    assert problem.key == key
    assert reason in problem.reason


@pytest.mark.parametrize(("key", "value"), [("REDIS_URL", "htp://:hunter2@h"), ("TURNSTILE_API_KEYS", "a:hunter2")])
def test_a_secret_is_not_shown_when_it_is_refused(key: str, value: str) -> None:
    assert key in SECRETS
    with pytest.raises(BadSettings) as caught:
        Settings.from_env({key: value})
    assert "hunter2" not in str(caught.value)


def test_api_keys_are_kept_as_hashes_only_and_one_may_be_given_as_its_hash() -> None:
    digest = hash_api_key(KEY)
    read = Settings.from_env({"TURNSTILE_API_KEYS": f"shop:{KEY}, sha256${digest}"})
    assert [(key.client, key.digest) for key in read.api_keys] == [("shop", digest), ("client2", digest)]
    assert KEY not in repr(read)


def test_without_api_keys_only_loopback_is_served() -> None:
    assert Settings.from_env({}).host == "127.0.0.1"
    assert Settings.from_env({"HOST": "::1"}).host == "::1"
    with pytest.raises(BadSettings, match="only loopback is served until TURNSTILE_API_KEYS or TURNSTILE_KEY_PEPPER is set"):
        Settings.from_env({"HOST": "0.0.0.0"})


def test_with_api_keys_every_interface_is_served_unless_one_is_named() -> None:
    keys = {"TURNSTILE_API_KEYS": KEY}
    assert Settings.from_env(keys).host == "0.0.0.0"
    assert Settings.from_env({**keys, "HOST": "10.0.0.1"}).host == "10.0.0.1"


def test_with_a_pepper_every_interface_is_served_and_nobody_reads_it() -> None:
    pepper = "0123456789abcdef" * 2
    read = Settings.from_env({"TURNSTILE_KEY_PEPPER": pepper})
    assert read.asks_for_keys and read.host == "0.0.0.0" and pepper not in repr(read)
    with pytest.raises(BadSettings) as caught:
        Settings.from_env({"TURNSTILE_KEY_PEPPER": pepper[1:], "HOST": "0.0.0.0"})
    assert [problem.key for problem in caught.value.problems] == ["TURNSTILE_KEY_PEPPER"]
    assert pepper[1:] not in str(caught.value)


def test_bad_api_keys_are_one_fault_not_two() -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.from_env({"HOST": "0.0.0.0", "TURNSTILE_API_KEYS": "a:b"})
    assert [problem.key for problem in caught.value.problems] == ["TURNSTILE_API_KEYS"]


@pytest.mark.parametrize("environ", [{"TURNSTILE_BACKOFF_BASE_S": "600"}, {"TURNSTILE_BACKOFF_CAP_S": "0.5"}])
def test_a_backoff_whose_cap_lies_below_its_base_is_refused_by_name(environ: dict[str, str]) -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.from_env(environ)
    assert [problem.key for problem in caught.value.problems] == list(environ)


@given(st.dictionaries(st.sampled_from([*PARSERS, "TURNSTILE_X", "HOME"]), TEXT, max_size=4))
def test_no_environment_crashes_the_reader(environ: dict[str, str]) -> None:
    try:
        read = Settings.from_env(environ)
    except BadSettings as error:
        assert {problem.key for problem in error.problems} <= {*environ, "HOST"}
        assert str(error)
    else:
        assert isinstance(read, Settings)
        assert "TURNSTILE_X" not in environ


@given(st.sampled_from(["REDIS_URL", "CARRIER_URL"]), st.sampled_from(["redis://", "unix://", "http://", "rediss://u:p@"]), TEXT)
def test_no_url_crashes_the_reader(key: str, scheme: str, rest: str) -> None:
    try:
        Settings.from_env({key: scheme + rest})
    except BadSettings as error:
        assert [problem.key for problem in error.problems] == [key]


def test_rate_limits_are_read_with_their_window() -> None:
    read = Settings.from_env({"TURNSTILE_RATE_LIMITS": "entries=2000/s, orders=600/m,*=100/h"}).rate_limits
    assert [(limit.name, limit.burst, limit.window_s) for limit in read] == [
        ("entries", 2000, 1),
        ("orders", 600, 60),
        ("*", 100, 3600),
    ]


@pytest.mark.parametrize("text", ["orders", "orders=0/s", "orders=5", "orders=5/day", "pages=5/s", "orders=5/s,"])
def test_a_rate_limit_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="TURNSTILE_RATE_LIMITS"):
        Settings.from_env({"TURNSTILE_RATE_LIMITS": text})
