"""Where webhooks may go, how they are signed, and what is refused at once."""

import base64
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadSettings, Permanent, ReceiverError
from jobs.mall import receivers
from jobs.mall.webhook_call import signature
from jobs.setting_values import WebhookSecret
from jobs.settings import Settings

SETTINGS = Settings(webhook_secrets=(WebhookSecret("", b"s" * 24),))
INTRANET = Settings(webhook_secrets=SETTINGS.webhook_secrets, webhook_allow=(ipaddress.ip_network("10.1.0.0/16"),))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "::ffff:0:7f00:1",
        "3fff::1",
        "5f00::1",
        "2001:0:7f00:1::",
        "2002:7f00:1::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not receivers.is_allowed(ipaddress.ip_address(address), ())
    with pytest.raises(Permanent, match="is not a public address"):
        receivers.addresses("hooks.example", SETTINGS, lambda _host: ["93.184.215.14", address])


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "::ffff:93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::1"]
)
def test_a_public_address_is_taken(address: str) -> None:
    assert receivers.addresses("hooks.example", SETTINGS, lambda _host: [address]) == [str(ipaddress.ip_address(address))]


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_an_ipv6_one_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    assert receivers.is_allowed(mapped, ()) is receivers.is_allowed(address, ())


@given(st.ip_addresses())
def test_nothing_that_python_knows_as_private_is_allowed(address: receivers.Address) -> None:
    odd = (address.is_private, address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified)
    assert not (any(odd) and receivers.is_allowed(address, ()))


def test_an_operator_allows_a_network_and_no_other() -> None:
    assert receivers.addresses("intranet", INTRANET, lambda _host: ["10.1.2.3"]) == ["10.1.2.3"]
    assert receivers.is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), INTRANET.webhook_allow)
    assert not receivers.is_allowed(ipaddress.ip_address("10.2.0.1"), INTRANET.webhook_allow)


def test_a_name_without_an_address_may_have_one_later() -> None:
    with pytest.raises(ReceiverError, match="has no address"):
        receivers.addresses("hooks.example", SETTINGS, lambda _host: [])
    with pytest.raises(ReceiverError, match="has no address"):
        receivers.look_up("hooks.invalid")


HTTP = "must be an http:// or https:// URL with a host"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://shop.example/hook?x=1", None),
        ("http://shop.example:8080", None),
        ("https://93.184.215.14:443/", None),
        ("ftp://shop.example", HTTP),
        ("https://", HTTP),
        ("//shop.example/hook", HTTP),
        ("http://[broken", HTTP),
        ("http://shop.example\r\nX: y", HTTP),
        ("https://shop.example/" + "x" * 2_000, HTTP),
        ("https://shop.example:22/", "the port must be 80, 443 or at least 1024"),
        ("https://shop.example:0/", "the port must be 80, 443 or at least 1024"),
        ("https://user:word@shop.example/", "must not hold a user name or password"),
        ("http://127.0.0.1:8000/", "127.0.0.1 is not a public address"),
        ("http://[::ffff:10.0.0.1]/", "is not a public address"),
        ("http://127.1/", "127.0.0.1 is not a public address"),
        ("http://0x7f000001/", "127.0.0.1 is not a public address"),
        ("http://2130706433/", "127.0.0.1 is not a public address"),
        ("http://10.1.2.3/", "10.1.2.3 is not a public address"),
    ],
)
def test_a_url_is_refused_with_the_reason(url: str, reason: str | None) -> None:
    said = receivers.refusal(url, SETTINGS)
    assert said is None if reason is None else reason in (said or "")


def test_what_an_operator_allows_is_taken_and_without_a_secret_nothing_is() -> None:
    assert receivers.refusal("http://10.1.2.3:9000/", INTRANET) is None
    assert "TURNSTILE_WEBHOOK_SECRETS is not set" in (receivers.refusal("https://shop.example", Settings()) or "")


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the reference libraries of Standard Webhooks."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets_belong_to_a_client_or_to_all() -> None:
    one, two = base64.b64encode(b"1" * 24).decode(), base64.b64encode(b"2" * 32).decode()
    read = Settings.from_env({"TURNSTILE_WEBHOOK_SECRETS": f"whsec_{one}, shop:whsec_{two}"})
    assert read.webhook_secrets == (WebhookSecret("", b"1" * 24), WebhookSecret("shop", b"2" * 32))
    assert one not in repr(read) and "1111" not in repr(read)


@pytest.mark.parametrize(
    "text", ["whsec_short", "no prefix at all", "shop:whsec_" + "A" * 32, "whsec_" + "A" * 32 + ",", "whsec_!!!"]
)
def test_an_unusable_secret_stops_the_start_and_is_not_shown(text: str) -> None:
    with pytest.raises(BadSettings) as refused:
        Settings.from_env({"TURNSTILE_WEBHOOK_SECRETS": text})
    assert text not in str(refused.value)
