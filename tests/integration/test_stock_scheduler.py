"""rq-scheduler's failures, each shown with rq-scheduler 0.14 itself before ours is asked; and its clients beside ours.

The scenarios are those of scheduler_failures.py, run in processes of their own.
"""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from processes import Processes, wait_for

from jobs import keys
from scheduler.scheduler import TurnstileScheduler

LIMIT_S = 90.0
PYTHON = ("python", "-W", "ignore")
SCENARIOS = Path(__file__).parents[1] / "scheduler_failures.py"

Both = Callable[[str], tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture
def both(redis_url: str, redis_client: redis.Redis, processes: Processes) -> Both:
    """Runs a scenario with the stock scheduler and with ours at once, on a database each; says what happened there and here."""

    def run(scenario: str) -> tuple[dict[str, Any], dict[str, Any]]:
        started = [
            processes.start(*PYTHON, str(SCENARIOS), engine, scenario, REDIS_URL=f"{redis_url}?db={database}")
            for database, engine in enumerate(("stock", "ours"), start=1)
        ]
        assert [process.ended(LIMIT_S) for process in started] == [0, 0]
        stock, ours = (json.loads(process.output.splitlines()[-1]) for process in started)
        return stock, ours

    return run


def test_a_stop_in_mid_pass_deletes_no_periodic_job(both: Both) -> None:
    stock, ours = both("stopped_anywhere")
    assert stock["periodic jobs vanished"] > 0
    assert ours["periodic jobs vanished"] == 0


def test_a_stop_in_mid_pass_lets_no_job_run_twice(both: Both) -> None:
    stock, ours = both("stopped_anywhere")
    assert (stock["runs of one job"], stock["runs of one fire"]) == ([1, 2], [1, 2])
    assert (ours["runs of one job"], ours["runs of one fire"]) == ([1], [1])


def test_two_schedulers_at_once_promote_each_job_once(both: Both) -> None:
    stock, ours = both("overtaken_anywhere")
    assert max(stock["jobs queued of three"]) == 6
    assert ours["jobs queued of three"] == [3]


def test_a_lock_that_ran_out_and_is_anothers_is_not_given_back(both: Both) -> None:
    stock, ours = both("lock_of_another")
    assert stock["lock"] == ""
    assert ours["lock"] == "another"


def test_a_client_that_is_stopped_leaves_no_job_that_nothing_leads_to(both: Both) -> None:
    stock, ours = both("client_stopped_anywhere")
    assert stock["jobs that nothing leads to"] > 0
    assert ours["jobs that nothing leads to"] == 0


def test_jobs_are_json_and_a_planted_pickle_is_not_executed(both: Both) -> None:
    stock, ours = both("pickles")
    assert stock == {"pickled": True, "executed": True}
    assert ours == {"pickled": False, "executed": False}


def test_retry_and_failure_ttl_are_options_of_the_job(both: Both) -> None:
    stock, ours = both("options")
    assert stock == {"arguments": ["failure_ttl", "retry"], "retries": None, "failure_ttl": None}
    assert ours == {"arguments": [], "retries": 3, "failure_ttl": 60}


def test_a_job_that_was_cancelled_does_not_run(both: Both) -> None:
    stock, ours = both("cancelled_job")
    assert sorted(stock["queued"]) == ["hourly", "once"]
    assert ours["queued"] == []


def test_delays_keep_their_fractions_of_a_second(both: Both) -> None:
    stock, ours = both("fraction")
    assert stock["fractions"] == [0.0, 0.0]
    assert ours["fractions"] == [0.75, 0.75]


def test_cron_is_reckoned_in_the_zone_that_was_asked_for(both: Both) -> None:
    stock, ours = both("time_zones")
    assert stock["registered"][0] != 12 and stock["next"][0] != 12
    assert ours == {"registered": [12, 12], "next": [12, 12]}


def test_registering_without_an_id_at_every_boot_adds_nothing(both: Both) -> None:
    stock, ours = both("boots")
    assert stock["periodic jobs"] == 6
    assert ours["periodic jobs"] == 2


def test_a_slow_run_is_not_overlapped_and_each_run_is_a_job_of_its_own(both: Both) -> None:
    stock, ours = both("slow_run")
    assert stock == {"queued while it ran": 1, "queued after it": 1, "same id": True}
    assert ours == {"queued while it ran": 0, "queued after it": 1, "same id": False}


def test_missed_fires_follow_the_policy_of_the_job(both: Both) -> None:
    stock, ours = both("missed_fires")
    assert stock == {"skip": 1, "once": 1, "all": 1}
    assert ours == {"skip": 0, "once": 1, "all": 5}


def test_a_result_ttl_below_the_period_deletes_no_periodic_job(both: Both) -> None:
    stock, ours = both("short_result")
    assert stock == {"registered": False, "queued": 0}
    assert ours == {"registered": True, "queued": 1}


def test_what_cannot_be_read_stops_nothing(both: Both) -> None:
    stock, ours = both("undecodable")
    assert stock == {"no call": [3, False], "no hash": [3, False]}
    assert ours == {"no call": [0, True], "no hash": [0, True]}


def test_the_command_reads_redis_url(redis_client: redis.Redis, redis_url: str, processes: Processes) -> None:
    def waits() -> bool:
        return redis_client.zscore(keys.SCHEDULED_JOBS, "once") is not None

    elsewhere = {"RQ_REDIS_URL": f"{redis_url}?db=1"}
    TurnstileScheduler("ticks", connection=redis_client).enqueue_in(timedelta(seconds=-1), "operator.add", 1, 2, job_id="once")
    stock = processes.start("rqscheduler", "--burst", **elsewhere)
    assert stock.ended(LIMIT_S) == 0
    assert waits(), "the stock one has served the Redis of RQ_REDIS_URL"
    processes.start("python", "-m", "scheduler", **elsewhere)
    wait_for(lambda: not waits(), LIMIT_S, "the job of REDIS_URL is promoted")
    assert redis_client.lrange(keys.queue("ticks"), 0, -1) == [b"once"]


# --- a stock client in another process, beside `python -m scheduler` ------------------------------------------------------

CLIENT = """
import sys
from datetime import UTC, datetime, timedelta
import redis, rq_scheduler
from jobs.queue.job import JsonJob

client = rq_scheduler.Scheduler("ticks", connection=redis.Redis.from_url(sys.argv[1]), job_class=JsonJob)
add, now = "operator.add", datetime.now(UTC)
client.enqueue_in(timedelta(seconds=-1), add, 1, 2, job_id="due")
client.enqueue_in(timedelta(hours=1), add, 1, 2, job_id="later")
client.cancel(client.enqueue_in(timedelta(hours=1), add, 1, 2, job_id="taken-out"))
cancelled = client.enqueue_in(timedelta(hours=1), add, 1, 2, job_id="cancelled")
cancelled.cancel()
client.change_execution_time(cancelled, now - timedelta(seconds=1))
client.change_execution_time(client.enqueue_in(timedelta(hours=1), add, 1, 2, job_id="moved"), now - timedelta(seconds=1))
client.schedule(now - timedelta(seconds=1), add, [1, 2], interval=3600, id="hourly")
client.cron("0 0 1 1 *", add, [1, 2], id="yearly")
pickled = rq_scheduler.Scheduler("ticks", connection=client.connection)
pickled.enqueue_in(timedelta(seconds=-1), add, 1, 2, job_id="pickled")
assert {"later", "hourly", "yearly"} <= {job.id for job in client.get_jobs()}
assert "later" in client and client.count(timedelta(hours=2)) >= 2
"""


def test_a_stock_client_beside_our_scheduler(redis_client: redis.Redis, redis_url: str, processes: Processes) -> None:
    processes.start("python", "-m", "scheduler")
    wait_for(lambda: redis_client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "the scheduler leads")
    client = processes.start(*PYTHON, "-c", CLIENT, redis_url)
    assert client.ended(LIMIT_S) == 0

    def ready() -> set[str]:
        return {re.sub("-[0-9_]+$", "", job_id.decode()) for job_id in redis_client.lrange(keys.queue("ticks"), 0, -1)}

    def waiting() -> set[str]:
        return {job_id.decode() for job_id in redis_client.zrange(keys.SCHEDULED_JOBS, 0, -1)}

    expected = {"due", "moved", "cron-hourly", "pickled"}
    wait_for(lambda: expected <= ready() and "cancelled" not in waiting(), LIMIT_S, f"{expected} are promoted")
    assert ready() == expected
    assert waiting() >= {"later", "hourly", "yearly"}
    assert "taken-out" not in waiting()
    assert redis_client.hget(keys.job("cancelled"), "status") == b"canceled"
