"""The demo's client: the same bytes and key again until an answer comes, and no longer than it may."""

import asyncio
import time
from dataclasses import dataclass, field

import httpx
import pytest

from jobs.demo import api
from jobs.demo.api import Api, RequestFailed, read

Step = httpx.Response | Exception


@dataclass
class Server:
    """Answers one step after the other, the last one for ever."""

    steps: list[Step]
    requests: list[httpx.Request] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step

    def ask(self, *, limit_s: float = 100.0) -> httpx.Response:
        async def post() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer), base_url="http://mall") as client:
                here = Api(client, time.monotonic() + limit_s)
                return await here.request("POST", "/v1/orders", b"{}", {"Idempotency-Key": "k"})

        return asyncio.run(post())


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds it would have slept; the chance that spreads them is one half."""
    found: list[float] = []

    async def sleep(delay_s: float) -> None:
        found.append(delay_s)

    monkeypatch.setattr(api.asyncio, "sleep", sleep)  # type: ignore[attr-defined]  # the module's own name for asyncio
    monkeypatch.setattr(api.random, "random", lambda: 0.5)  # type: ignore[attr-defined]
    return found


def test_it_repeats_the_same_bytes_and_key_until_it_is_answered() -> None:
    later: list[Step] = [httpx.ReadTimeout("slow"), httpx.Response(409), httpx.Response(503), httpx.Response(429)]
    server = Server([*later, httpx.Response(202)])
    assert server.ask().status_code == 202
    assert len(server.requests) == 5
    assert {(request.content, request.headers["idempotency-key"]) for request in server.requests} == {(b"{}", "k")}


def test_it_backs_off_and_waits_as_long_as_the_server_asks_on_top(slept: list[float]) -> None:
    Server([httpx.Response(503, headers={"Retry-After": "7"}), *[httpx.Response(503)] * 6, httpx.Response(202)]).ask()
    assert slept == pytest.approx([7.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2])


def test_it_gives_up_before_a_wait_that_would_pass_the_limit(slept: list[float]) -> None:
    with pytest.raises(RequestFailed, match="POST /v1/orders: no answer: HTTP 503"):
        Server([httpx.Response(503), httpx.Response(503, headers={"Retry-After": "20"})]).ask(limit_s=10.0)
    assert slept == [0.1]


@pytest.mark.parametrize("status", [200, 400, 413, 422, 500, 502])
def test_any_other_status_is_handed_back_at_once(status: int) -> None:
    server = Server([httpx.Response(status)])
    assert server.ask().status_code == status
    assert len(server.requests) == 1


def test_a_body_of_another_shape_or_status_is_a_failure_that_shows_it() -> None:
    with pytest.raises(RequestFailed, match="<html>"):
        read(Server([httpx.Response(202, content=b"<html>")]).ask(), 202, dict)
    with pytest.raises(RequestFailed, match="answered 500: boom"):
        read(Server([httpx.Response(500, content=b"boom")]).ask(), 202, dict)
