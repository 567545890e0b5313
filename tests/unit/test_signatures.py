"""Signatures of devices: what is signed, for how long it counts, and that no other request has the same."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.access.signatures import WINDOW_S, BadSignature, Claim, sign

SECRET = bytes(range(32))
NOW = 1_763_719_200.0
ID, AT, BODY = b"msg_2Lh9KRb0pzN4LePd3XiA4v", b"1763719200", b'{"lines":[]}'
VECTOR = "v1,E04jF755ThXvqrn78jXvBskhenX4yxEBrMTgrmyNiu0="

Request = tuple[bytes, bytes, str, bytes, bytes]
requests = st.tuples(
    st.from_regex(rb"[A-Za-z0-9_-]{1,8}", fullmatch=True),
    st.integers(0, 10**11).map(lambda at: str(at).encode()),
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.from_regex(rb"/[a-z0-9.?/]{0,12}", fullmatch=True),
    st.binary(max_size=8),
)


def claim(**other: bytes) -> Claim:
    return Claim(**{"id": ID, "timestamp": AT, "signatures": VECTOR.encode(), **other})


def test_the_signature_is_that_of_the_documented_example() -> None:
    assert sign(SECRET, ID, AT, "POST", b"/v1/orders?dry=1", BODY) == VECTOR
    claim().check(SECRET, "POST", b"/v1/orders?dry=1", BODY)


@given(requests, requests)
@example((b"a", b"1", "GET", b"/x.y", b""), (b"a", b"1", "GET", b"/x", b"y"))
def test_two_requests_never_have_the_same_signature(one: Request, other: Request) -> None:
    assert (sign(SECRET, *one) == sign(SECRET, *other)) == (one == other)


@pytest.mark.parametrize(
    ("method", "target", "body", "secret"),
    [
        ("PUT", b"/v1/orders?dry=1", BODY, SECRET),
        ("POST", b"/v1/orders", BODY, SECRET),
        ("POST", b"/v1/orders?dry=1", BODY + b" ", SECRET),
        ("POST", b"/v1/orders?dry=1", BODY, bytes(32)),
    ],
    ids=["method", "query", "body", "secret"],
)
def test_a_signature_of_anything_else_does_not_count(method: str, target: bytes, body: bytes, secret: bytes) -> None:
    with pytest.raises(BadSignature, match="not that of this request"):
        claim().check(secret, method, target, body)


def test_one_of_several_signatures_is_enough_but_only_the_first_four_are_looked_at() -> None:
    wrong, right = b"v1," + base64.b64encode(bytes(32)), VECTOR.encode()
    claim(signatures=b" ".join([wrong, b"v2,x", wrong, right])).check(SECRET, "POST", b"/v1/orders?dry=1", BODY)
    with pytest.raises(BadSignature):
        claim(signatures=b" ".join([wrong] * 4 + [right])).check(SECRET, "POST", b"/v1/orders?dry=1", BODY)


@given(st.integers(-3 * WINDOW_S, 3 * WINDOW_S))
@example(WINDOW_S)
@example(-WINDOW_S)
@example(WINDOW_S + 1)
def test_a_signature_is_remembered_for_at_least_as_long_as_it_counts(ahead_s: int) -> None:
    one = claim(timestamp=str(int(NOW) + ahead_s).encode())
    if abs(ahead_s) > WINDOW_S:
        with pytest.raises(BadSignature, match=f"server's time, {NOW:.0f}"):
            one.check_time(NOW)
        return
    one.check_time(NOW)
    ttl_s = one.expires_in_s(NOW)
    assert 0 < ttl_s <= 2 * WINDOW_S + 1
    with pytest.raises(BadSignature):
        one.check_time(NOW + ttl_s)


@pytest.mark.parametrize(
    "other", [{"id": b""}, {"id": b"a.b"}, {"id": b"x" * 65}, {"timestamp": b""}, {"timestamp": b"1e9"}, {"timestamp": b"-1"}]
)
def test_an_id_or_a_time_of_another_form_is_refused(other: dict[str, bytes]) -> None:
    with pytest.raises(BadSignature, match="needed"):
        claim(**other).check_time(NOW)
