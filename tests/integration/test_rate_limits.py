"""Limits per client: the tokens in Redis, the answers over HTTP, and several web processes on one limit."""

import asyncio
import contextlib
import time
from dataclasses import replace

import httpx
import pytest
import redis
import redis.asyncio
from asking import Ask
from processes import Processes, wait_for
from web_site import serving

from jobs import keys
from jobs.errors import TooMany
from jobs.setting_values import ApiKey, RateLimit, hash_api_key
from jobs.settings import Settings
from web.rate_limits import RATE_LIMIT, RateLimits

HOURLY = RateLimit("orders", 10, 3_600)
KEY = keys.rate_limit("orders:shop")
LINE = {"sku": "A", "quantity": 1}


def lend(client: redis.Redis, wanted: int, owed: int = 0, limit: RateLimit = HOURLY) -> tuple[int, int, float]:
    lent, left, next_in, _full_in = RATE_LIMIT(client, [KEY], [repr(1 / limit.per_s), limit.burst, wanted, owed])
    return lent, left, float(next_in)


def test_no_more_than_the_limit_is_lent(redis_client: redis.Redis) -> None:
    assert lend(redis_client, 4) == (4, 6, 0.0)
    assert lend(redis_client, 9)[:2] == (6, 0)
    lent, left, next_in = lend(redis_client, 1)
    assert (lent, left) == (0, 0) and 0 < next_in <= 360
    assert 0 < redis_client.pttl(KEY) <= 3_600_000


def test_what_was_spent_beyond_the_limit_is_earned_before_more_is_lent(redis_client: redis.Redis) -> None:
    lend(redis_client, 1)
    lend(redis_client, 0, owed=29)
    lent, _left, next_in = lend(redis_client, 1)
    assert lent == 0 and 20 * 360 < next_in <= 21 * 360


def test_tokens_come_back_at_an_even_rate(redis_client: redis.Redis) -> None:
    quick = RateLimit("orders", 20, 1)
    assert lend(redis_client, 20, limit=quick)[0] == 20
    assert lend(redis_client, 20, limit=quick)[0] < 20
    wait_for(lambda: lend(redis_client, 1, limit=quick)[0] == 1, 20, "a token is earned")


def test_processes_together_never_admit_more_than_the_limit(redis_client: redis.Redis, ask: Ask) -> None:
    async def admitted(client: redis.asyncio.Redis) -> int:
        limit = RateLimit("orders", 100, 3_600)
        processes = [RateLimits(client, [limit]) for _ in range(3)]

        async def call(number: int) -> bool:
            limits = processes[number % 3]
            lease = limits.lease("orders", "shop")
            assert lease is not None
            with contextlib.suppress(TooMany):
                await limits.take(lease)
                return True
            return False

        return sum(await asyncio.gather(*(call(number) for number in range(600))))

    assert 97 <= ask(admitted) <= 100


@pytest.fixture
def limited(settings: Settings, redis_client: redis.Redis) -> Settings:
    return replace(settings, rate_limits=(HOURLY, RateLimit("*", 3, 3_600)))


def order(http: httpx.Client, number: int, **headers: str) -> httpx.Response:
    return http.post("/v1/orders", json={"lines": [LINE]}, headers={"Idempotency-Key": str(number), **headers})


def test_a_client_above_its_limit_gets_429_and_is_told_when_to_come_back(limited: Settings) -> None:
    with serving(limited) as http:
        for number in range(10):
            taken = order(http, number)
            assert taken.status_code == 202, taken.text
            assert taken.headers["ratelimit-policy"] == '"orders";q=10;w=3600'
            assert taken.headers["ratelimit"].startswith(f'"orders";r={9 - number};t=')
        refused = order(http, 10)
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:turnstile:problem:too-many-requests")
        assert 0 < int(refused.headers["retry-after"]) <= 360
        assert refused.headers["ratelimit"].startswith('"orders";r=0;')
        assert "10 orders in 3600 s" in refused.json()["detail"]
        assert [http.get("/v1/queues").status_code for _ in range(4)] == [200, 200, 200, 429], (
            "all the rest has a limit of its own"
        )
        assert http.get("/livez").status_code == 200


def test_each_client_has_its_own_limit(limited: Settings) -> None:
    named = ("first", "second")
    keyed = replace(limited, api_keys=tuple(ApiKey(name, hash_api_key(f"{name}-long-enough-key")) for name in named))
    with serving(keyed) as http:
        for name in named:
            headers = {"Authorization": f"Bearer {name}-long-enough-key"}
            assert [order(http, number, **headers).status_code for number in range(11)] == [202] * 10 + [429]


def test_several_web_processes_share_one_limit(redis_client: redis.Redis, processes: Processes, free_port: int) -> None:
    environ = {"PORT": str(free_port), "WEB_CONCURRENCY": "2", "TURNSTILE_RATE_LIMITS": "orders=20/h"}
    processes.start("python", "-m", "web", **environ)
    url = f"http://127.0.0.1:{free_port}"

    def is_up() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        return False

    wait_for(is_up, 60, "the web answers")
    found = []
    for number in range(60):  # a connection each, so that both processes have some
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            found.append(order(http, number).status_code)
    assert set(found) == {202, 429}
    assert found.count(202) <= 20, "no process has a limit of its own"


def test_a_large_body_is_paid_for_afterwards(settings: Settings, redis_client: redis.Redis) -> None:
    lines = "\n".join(f'{{"gate": "north", "event_id": "e{number}"}}' for number in range(50))
    headers = {"Content-Type": "application/x-ndjson"}
    with serving(replace(settings, rate_limits=(RateLimit("entries", 10, 3_600),))) as http:
        first = http.post("/v1/entries", content=lines, headers=headers)
        assert (first.status_code, first.json()["accepted"]) == (202, 50)
        second = http.post("/v1/entries", content=lines, headers=headers)
        assert second.status_code == 429
        assert int(second.headers["retry-after"]) > 39 * 360
    assert float(redis_client.get(keys.rate_limit("entries:127.0.0.1")) or 0) > time.time()
