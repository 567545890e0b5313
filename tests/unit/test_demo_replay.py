"""The demo's run against a made-up API: it sees what an honest one does, and what a dishonest one does wrong."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from jobs.commands import demo
from jobs.demo import plan
from jobs.demo import replay as replay_module
from jobs.demo.api import Api
from jobs.demo.replay import Replay
from jobs.demo.sample import SampleOrder
from jobs.demo.verdict import discrepancies, figures
from jobs.mall.orders import Line

SLOTS = [15] * 4
TODAY = {"date": "2005-11-01", "in": 0, "out": 0}
ORDERS = [SampleOrder([Line("a", number % 5)], reference=str(number)) for number in range(150)]


class Mall:
    """The API in its shortest form: everything is counted and delivered at once. `lie` names the one thing it gets wrong."""

    def __init__(self, lie: str = "") -> None:
        self.lie = lie
        self.entries: set[str] = set()
        self.orders: dict[str, dict[str, Any]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/entries":
            return self.take_entries(request)
        if path == "/v1/footfall/summary":
            n = len(self.entries)
            figures = {"accepted": n, "counted": n - (self.lie == "unbalanced"), "pending": 0}
            return httpx.Response(200, json={**figures, "lag_s": 0, "occupancy": 0, "today": TODAY, "by_gate": {}})
        if path == "/v1/footfall":
            counted = len(self.entries) - (self.lie == "uncounted")
            return httpx.Response(200, json={"buckets": [], "totals": {"in": counted, "out": 0}})
        if path == "/v1/orders":
            return self.take_order(request)
        return httpx.Response(200, json=self.orders[path.rpartition("/")[2]])

    def take_entries(self, request: httpx.Request) -> httpx.Response:
        batch = request.headers["content-type"] == "application/x-ndjson"
        answer: dict[str, Any] = {"accepted": 0, "duplicates": 0, "rejected": []}
        for number, line in enumerate(request.content.splitlines(), start=1):
            body = json.loads(line)
            if not body["gate"] or body["event_id"].endswith("-broken"):
                if not batch:
                    return httpx.Response(422, json={"detail": "gate: bad"})
                answer["rejected"].append({"line": number + (self.lie == "wrong line"), "error": "gate: bad"})
            else:
                answer["duplicates" if body["event_id"] in self.entries else "accepted"] += 1
                self.entries.add(body["event_id"])
        return httpx.Response(500 if self.lie == "500" and batch else 202, json=answer)

    def take_order(self, request: httpx.Request) -> httpx.Response:
        key, body = request.headers["idempotency-key"], json.loads(request.content)
        if any(line["quantity"] <= 0 for line in body["lines"]) and self.lie != "credulous":
            named = "lines[0].sku" if self.lie == "wrong field" else "lines[0].quantity"
            errors = [{"field": named, "reason": f"must be at least 1, got {body['reference']}"}]
            return httpx.Response(422, json={"detail": f"{named} is refused", "errors": errors})
        if self.lie == "choosy" and body["reference"] == "1":
            return httpx.Response(422, json={"detail": "not today"})
        order_id = "one" if self.lie == "one id" else key
        order = {"id": order_id, "reference": "", "step": "", "created_at": 0, "updated_at": 0, "attempts": []}
        tracking_number = "" if self.lie == "no tracking" else "TS1"
        self.orders[order_id] = {**order, "status": "delivered", "tracking_number": tracking_number}
        return httpx.Response(202, json={**order, "status": "accepted"})


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "POLL_S", 0.0)


def run(mall: Mall, *, limit_s: float = 30.0) -> tuple[Replay, list[str]]:
    the_run = plan.Run("run", time.time(), speed=1e9)
    posts = plan.plan_entries(SLOTS, the_run)

    async def replay() -> Replay:
        async with httpx.AsyncClient(transport=httpx.MockTransport(mall), base_url="http://mall") as client:
            one = Replay(Api(client, time.monotonic() + limit_s), the_run, lambda *_: None)
            await one.run(posts, ORDERS)
            return one

    done = asyncio.run(replay())
    return done, discrepancies(figures(SLOTS, posts, ORDERS, done.seen), done.seen)


def test_an_honest_mall_adds_up() -> None:
    replay, found = run(Mall())
    assert found == []
    assert replay.seen.accepted == replay.seen.counted == 60
    assert (replay.seen.rejected, replay.seen.refused) == (5, 30)
    assert replay.seen.ends == {"delivered": 120}


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ("unbalanced", "accepted != counted + pending"),
        ("uncounted", "entries counted: 60 expected, 59 seen"),
        ("wrong line", "an entry post with the broken lines (11,) had rejected: [Rejected(line=12)]"),
        ("500", "POST /v1/entries: answered 500"),
        ("wrong field", 'order 0 was refused: {"detail":"lines[0].sku is refused"'),
        ("choosy", 'order 1 was refused: {"detail":"not today"}'),
        ("credulous", "order 0 with a quantity of zero or below was accepted as run-0"),
        ("one id", "orders accepted: 120 expected, 1 seen"),
        ("no tracking", "order run-1 is delivered, its tracking number ''"),
    ],
)
def test_what_a_dishonest_mall_does_wrong_is_found(lie: str, says: str) -> None:
    assert says in "\n".join(run(Mall(lie))[1])


def test_a_mall_that_stops_answering_ends_the_run_with_the_reason() -> None:
    class Gone(Mall):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

    found = run(Gone(), limit_s=0.0)[1]
    assert found.count("POST /v1/orders: no answer: ConnectError refused") == len(ORDERS)


def test_an_order_that_never_ends_is_named_when_the_time_is_up() -> None:
    class Stuck(Mall):
        def take_order(self, request: httpx.Request) -> httpx.Response:
            answer = super().take_order(request)
            for order in self.orders.values():
                order["status"] = "picking"
            return answer

    assert "order run-1 is picking, " in "\n".join(run(Stuck(), limit_s=0.3)[1])


@pytest.mark.parametrize(("lie", "code", "says"), [("", 0, "Everything adds up."), ("no tracking", 1, "Does not add up in 3")])
def test_the_command_ends_with_0_when_it_adds_up_and_with_1_and_the_first_points_when_not(
    lie: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(Mall(lie)), base_url="http://mall")
    monkeypatch.setattr(demo, "_open_client", lambda _url, _key: client)
    assert demo.main(["--speed", "1e9"]) == code
    shown = capsys.readouterr().out
    assert says in shown
    assert shown.count("  - ") == (demo.MAX_SHOWN if code else 0)
