"""`python3 -m jobs demo`: its options and exit codes."""

import socket

import pytest

from jobs.commands import demo


def test_without_a_system_it_ends_with_2_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unserved:
        unserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unserved.getsockname()[1]}"
        assert demo.main(["--url", url]) == 2
    message = capsys.readouterr().err
    assert f"no usable Turnstile at {url}" in message
    assert "python3 -m jobs up" in message


@pytest.mark.parametrize("url", ["mall", "ftp://mall", "http://mall:x"])
def test_an_unusable_url_ends_with_2_and_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--url", url]) == 2
    assert f"no usable Turnstile at {url}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--day", "2001-01-01"], "the sample has 2005-07-24 to 2005-11-05"),
        (["--speed", "1"], "must be at least 2"),
        (["--speed", "nan"], "must be at least 2"),
        (["--speed", "inf"], "must be at least 2"),
        (["--speed", "slow"], "invalid float value: 'slow'"),
    ],
)
def test_an_unusable_option_is_named_with_the_reason(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        demo.main(argv)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "asked"), [("http://127.0.0.1:8000", False), ("http://localhost", False), ("https://mall.example", True)]
)
def test_proxies_are_asked_only_for_other_machines_and_the_key_is_a_bearer_token(url: str, asked: bool) -> None:
    client = demo._open_client(url, "key")
    assert client.trust_env is asked
    assert client.headers["authorization"] == "Bearer key"
