"""Requests that share a round trip: each gets its own answer, and a failed one fails exactly those that it carried."""

import asyncio
from collections.abc import Sequence

import pytest

from jobs.mall.entries import Entry
from web.coalescer import Coalescer


def entry(number: int) -> Entry:
    return Entry("e0", number, "2026-11-21T10:00|2026-11-21|1|in|n", 1)


class Redis:
    """Round trips that end when they are told to; an even number is new."""

    def __init__(self) -> None:
        self.carried: list[list[int]] = []
        self.ends: list[asyncio.Future[None]] = []

    async def ingest(self, entries: Sequence[Entry], _now: float) -> list[bool]:
        self.carried.append([found.number for found in entries])
        self.ends.append(asyncio.get_running_loop().create_future())
        await self.ends[-1]
        return [found.number % 2 == 0 for found in entries]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_arrives_together_shares_a_round_trip_and_each_gets_its_own_answer() -> None:
    async def run() -> None:
        trips = Redis()
        shared = Coalescer(trips.ingest, 100)
        answers = [shared.submit([entry(0), entry(1)]), shared.submit([entry(3)]), shared.submit([entry(4)])]
        await settle()
        assert trips.carried == [[0, 1, 3, 4]]
        trips.ends[0].set_result(None)
        assert await asyncio.gather(*answers) == [[True, False], [False], [True]]

    asyncio.run(run())


def test_a_failed_round_trip_fails_the_requests_that_it_carried_and_no_other() -> None:
    async def run() -> None:
        trips = Redis()
        shared = Coalescer(trips.ingest, 100)
        first = shared.submit([entry(0)])
        await settle()
        second = [shared.submit([entry(2)]), shared.submit([entry(4)])]
        await settle()
        trips.ends[0].set_result(None)
        trips.ends[1].set_exception(ConnectionError("away"))
        assert await first == [True]
        for answer in second:
            with pytest.raises(ConnectionError):
                await answer
        third = shared.submit([entry(6)])
        await settle()
        trips.ends[2].set_result(None)
        assert await third == [True], "it goes on"

    asyncio.run(run())


def test_few_are_under_way_at_once_and_the_rest_goes_together_within_the_size_of_a_batch() -> None:
    async def run() -> None:
        trips = Redis()
        shared = Coalescer(trips.ingest, 3)
        answers = []
        for number in range(9):
            answers.append(shared.submit([entry(number)]))
            if number < 2:
                await settle()
        await settle()
        assert trips.carried == [[0], [1]]
        for number in range(5):
            if number < len(trips.ends):
                trips.ends[number].set_result(None)
            await settle()
        assert trips.carried[2:] == [[2, 3, 4], [5, 6, 7], [8]]
        assert len(await asyncio.gather(*answers)) == 9

    asyncio.run(run())


def test_a_request_that_was_given_up_costs_the_others_of_its_round_trip_nothing() -> None:
    async def run() -> None:
        trips = Redis()
        shared = Coalescer(trips.ingest, 3)
        gone, stays = shared.submit([entry(1)]), shared.submit([entry(2)])
        await settle()
        gone.cancel()
        trips.ends[0].set_result(None)
        assert await stays == [True]

    asyncio.run(run())
