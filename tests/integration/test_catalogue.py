"""Calling by name from a program that has no code of the task: the same checks, the same options, the same job."""

import json
import subprocess
import sys
import time

import msgspec
import pytest
import redis
import sample_tasks
from asking import Ask
from job_watch import LIMIT_S, result, status
from processes import ROOT, Processes
from web_site import serving

from jobs import keys
from jobs.errors import InvalidField, UnknownTask
from jobs.queue import catalogue
from jobs.queue import task as task_module
from jobs.queue.task import Task
from jobs.settings import Settings

NOW = 1_763_764_205.0
PROGRAM = """
import json, sys, time
from jobs import connections
from jobs.errors import TurnstileError
from jobs.queue import catalogue
from jobs.queue.calling import place
from jobs.queue.job import unique_id
from jobs.queue.task import REGISTRY
assert not REGISTRY and "sample_tasks" not in sys.modules
name, args, kwargs, options = json.loads(sys.argv[1])
try:
    client, due_at, key = connections.process_client(), options.pop("due_at", None), options.pop("unique_key", None)
    task = catalogue.find(client, name)
    job_id = key and unique_id(name, key)
    job = task.build(task.options(**options).defaults, args, kwargs, job_id=job_id, due_at=due_at)
    print(json.dumps(place(client, job, now=time.time(), due_at=due_at)))
except TurnstileError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


class Sender:
    """Another program, which imports nothing of ours but the catalogue."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ

    def __call__(self, name: str, *args: object, options: dict[str, object] | None = None, **kwargs: object) -> list[object]:
        call = json.dumps([name, args, kwargs, options or {}])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, call], cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        answer: list[object] = json.loads(done.stdout)
        return answer


@pytest.fixture
def sender(process_environ: dict[str, str]) -> Sender:
    return Sender(process_environ)


@pytest.fixture
def without_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program forgets its tasks."""
    monkeypatch.setattr(task_module, "REGISTRY", {})
    monkeypatch.setattr(catalogue, "REGISTRY", {})


def test_a_program_without_the_code_sends_a_job_that_a_worker_runs(
    redis_client: redis.Redis, processes: Processes, sender: Sender
) -> None:
    processes.worker("default").prints("worker started")
    job_id, created = sender("sample.add", 1, b=2)
    assert created is True
    assert result(redis_client, str(job_id)) == 3


def test_it_meets_the_same_checks(redis_client: redis.Redis, sender: Sender) -> None:
    catalogue.publish(redis_client)
    assert sender("sample.nowhere") == ["UnknownTask", "task 'sample.nowhere' is not on the allow-list"]
    for answer in (sender("sample.add", 1), sender("sample.add", 1, 2, 3), sender("sample.add", 1, c=2)):
        assert answer[0] == "InvalidField"
        assert str(answer[1]).startswith("args: sample.add(a, b): ")
    assert sender("sample.add", 1, 2, options={"priority": "urgent"})[0] == "InvalidField"
    assert sender("sample.add", 1, 2, options={"urgent": True})[0] == "InvalidField"
    assert redis_client.keys("rq:job:*") == []


def test_the_options_are_the_tasks_and_may_be_others_for_a_call(redis_client: redis.Redis, sender: Sender) -> None:
    catalogue.publish(redis_client)
    limits = redis_client.hmget(keys.job(str(sender("sample.mind_limit", True)[0])), "timeout", "soft_time_limit_s", "origin")
    assert limits == [b"20", b"0.2", b"default"]
    options = {"queue": "mail", "priority": "high", "expires_s": 60, "unique": True, "time_limit_s": 3}
    first = sender("sample.add", 1, 2, options=options)
    assert sender("sample.add", a=1, b=2, options=options) == [first[0], False]
    assert redis_client.hmget(keys.job(str(first[0])), "timeout", "origin") == [b"3", b"mail.high"]


def test_a_delayed_call_and_a_unique_key(redis_client: redis.Redis, sender: Sender) -> None:
    catalogue.publish(redis_client)
    due_at = time.time() + 60
    job_id, created = sender("sample.add", 1, 2, options={"due_at": due_at, "unique_key": "mine"})
    assert (created, redis_client.zscore(keys.SCHEDULED_JOBS, str(job_id))) == (True, due_at)
    assert sender("sample.add", 3, 4, options={"unique_key": "mine"}) == [job_id, False]


def fields_of(task: Task, *args: object, **kwargs: object) -> dict[str, str]:
    flat = json.loads(task.build(task.defaults, args, kwargs, job_id="j", now=NOW).fields)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_with_and_without_the_code_the_job_is_the_same(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def send(to: str, copies: int = 2, *rest: int, loud: bool = False, at: object = object(), **more: int) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(task_module, "REGISTRY", {})
        patched.setattr(task_module, "_BY_PATH", {})
        known = task_module.task(
            name="sample.send", queue="mail", unique=True, max_concurrent=2, owned=True, expires_s=9.5, priority="low"
        )(send)
        patched.setattr(catalogue, "REGISTRY", task_module.REGISTRY)
        catalogue.publish(redis_client)
    card = redis_client.hget(keys.TASKS, "sample.send")
    absent = catalogue._from_card("sample.send", card)
    for args, kwargs in ((("a",), {}), (("a", 2), {}), (("a", 2, 3), {"loud": True, "extra": 1}), ((), {"to": "b"})):
        assert fields_of(known, *args, **kwargs) == fields_of(absent, *args, **kwargs)
        assert known.spec(*args, **kwargs).lock == absent.spec(*args, **kwargs).lock
    with pytest.raises(Exception, match=r"the code of sample\.send is not in this program"):
        absent("a")


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"of_a_newer_version": 1}},
        {"options": {"priority": "urgent"}},
        {"queue": "a b"},
        {"parameters": [["a", 9, False, None]]},
        {"parameters": [["a", 1, False, None], ["a", 1, False, None]]},
        {"parameters": [["a", 3, False, None], ["b", 1, False, None]]},
        {"parameters": [["a b", 1, False, None]]},
        {"limited": "perhaps"},
        None,
    ],
)
def test_an_entry_of_the_catalogue_that_cannot_be_read_says_so(
    redis_client: redis.Redis, without_code: None, settings: Settings, change: dict[str, object] | None
) -> None:
    card = {"path": "a.b", "queue": "default", "options": {}, "parameters": [], "limited": False, "owned": False}
    redis_client.hset(keys.TASKS, "sample.far", b"\xff" if change is None else msgspec.json.encode({**card, **change}))
    with pytest.raises(InvalidField, match=r"task: the entry of sample\.far in turnstile:tasks cannot be read"):
        catalogue.send("sample.far")
    assert redis_client.keys("rq:job:*") == []


def test_the_async_twin_asks_the_catalogue_too(
    redis_client: redis.Redis, ask: Ask, without_code: None, settings: Settings
) -> None:
    with pytest.raises(UnknownTask):
        ask(lambda _client: catalogue.send_async("sample.add", 1, 2))
    redis_client.hset(keys.TASKS, "sample.add", _card_of(sample_tasks.add))
    sent = ask(lambda _client: catalogue.send_async("sample.add", 1, 2))
    assert status(redis_client, sent.id) == "queued"
    assert status(redis_client, catalogue.send("sample.add", 1, b=2).id) == "queued"
    with pytest.raises(InvalidField, match="argument 'b' must be JSON"):
        ask(lambda _client: catalogue.send_async("sample.add", 1, {2}))


def _card_of(task: Task) -> bytes:
    return msgspec.json.encode(catalogue._card(task))


def test_the_api_enqueues_a_task_that_only_the_workers_know(
    redis_client: redis.Redis, processes: Processes, settings: Settings, without_code: None
) -> None:
    with serving(settings) as web:
        body = {"task": "sample.add", "args": [1], "kwargs": {"b": 2}}
        assert web.post("/v1/jobs", json=body).status_code == 404
        processes.worker("default").prints("worker started")
        answer = web.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["created"]) == (202, True)
        assert result(redis_client, answer.json()["id"]) == 3
        refused = web.post("/v1/jobs", json={"task": "sample.add", "args": [1]})
        assert (refused.status_code, "sample.add(a, b): missing" in refused.text) == (422, True)


def test_a_worker_publishes_its_tasks_again_without_harm(redis_client: redis.Redis, processes: Processes) -> None:
    for _ in range(2):
        processes.worker("default", options=("--burst",)).ended(LIMIT_S)
        names = redis_client.hkeys(keys.TASKS)
        assert {b"sample.add", b"sample.mind_limit"} <= set(names)
