"""Tasks: the allow-list, and calls that cannot work refused where they are made."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from jobs.errors import InvalidField, UnknownTask
from jobs.queue import task as task_module
from jobs.queue.backoff import Backoff
from jobs.queue.job import Call
from jobs.queue.running import RunningJob, running_job, set_running_job
from jobs.queue.task import Task, by_name, by_path, task


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(task_module, "REGISTRY", {})
    monkeypatch.setattr(task_module, "_BY_PATH", {})
    yield
    set_running_job(None)


def greet(name: str, *, loud: bool = False) -> str:
    """Greets."""
    return name.upper() if loud else name


def made(**options: object) -> Task:
    return task(name="sample.greet", **options)(greet)  # type: ignore[arg-type]  # options of several types


def test_a_task_is_found_by_its_name_and_by_the_path_that_its_jobs_carry() -> None:
    registered = made()
    assert by_name("sample.greet") is by_path(f"{__name__}.greet") is registered
    assert registered.path == f"{__name__}.greet"


def test_what_is_not_registered_is_unknown() -> None:
    with pytest.raises(UnknownTask, match=r"'os\.system' is not on the allow-list"):
        by_path("os.system")
    with pytest.raises(UnknownTask):
        by_name("sample.greet")


def test_a_task_is_still_a_function_as_a_stock_worker_calls_it() -> None:
    assert made()("ann", loud=True) == "ANN"


def test_a_name_can_be_declared_again_by_the_same_function_but_not_by_another() -> None:
    made()
    made(queue="other")
    assert by_name("sample.greet").queue == "other"
    with pytest.raises(ValueError, match=r"'sample\.greet' is declared twice"):
        task(name="sample.greet")(lambda: None)


@pytest.mark.parametrize("name", ["", "Sample", "sample greet", "sample.", "1sample", "sample-greet"])
def test_a_name_that_is_no_dotted_lower_case_words_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case words joined by dots"):
        task(name=name)(greet)


def test_a_job_of_a_task_has_its_queue_limits_and_arguments() -> None:
    job = made(queue="loud", time_limit_s=2.5, result_ttl_s=9, retry=Backoff(2)).spec("ann", loud=True, job_id="j-1", now=0.0)
    flat = json.loads(job.fields)
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    assert (job.id, job.queue) == ("j-1", "loud")
    assert found["data"] == json.dumps([f"{__name__}.greet", None, ["ann"], {"loud": True}], separators=(",", ":"))
    assert (found["task"], found["time_limit_s"], found["result_ttl"]) == ("sample.greet", "2.5", "9")


def test_each_job_has_an_id_of_its_own_unless_one_is_given() -> None:
    registered = made()
    assert registered.spec("ann").id != registered.spec("ann").id


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), (("a", "b"), {}), (("a",), {"volume": 3})])
def test_a_call_that_the_function_cannot_take_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match=r"args: sample\.greet\(name: .*loud: .*\).*: "):
        made().spec(*args, **kwargs)


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


class Kind(StrEnum):
    """Text by inheritance."""

    A = "a"


class Level(IntEnum):
    """A number by inheritance."""

    LOW = 1


NOT_JSON: dict[str, Any] = {
    "object": object(),
    "surrogate": "caf\udce9",
    "surrogate in a key": {"caf\udce9": 1},
    "complex key": {1j: 1},
    "number key": {1: 1},
    "true key": {True: 1},
    "null key": [{"a": [{None: 1}]}],
    "datetime": datetime(2025, 11, 21, tzinfo=UTC),
    "set": {1},
    "bytes": b"x",
    "nan": [math.nan],
    "infinite": {"a": -math.inf},
    "loop": endless(),
    "deep": deep(),
    "generator": iter([1]),
}


@pytest.mark.parametrize("kind", NOT_JSON)
def test_arguments_that_are_not_json_are_refused_by_the_name_of_the_argument(kind: str) -> None:
    with pytest.raises(InvalidField, match=r"args: sample\.greet: argument 'loud' must be JSON: .") as caught:
        made().spec("ann", loud=NOT_JSON[kind])
    assert caught.value.field == "args"
    with pytest.raises(InvalidField, match="argument 'name' must be JSON"):
        made().spec(NOT_JSON[kind])


@pytest.mark.parametrize("value", [None, 2**70, -0.0, "ü\n\u2028\x00", (1, 2), {"a": {"b": []}}, Kind.A, Level.LOW])
def test_arguments_that_are_json_arrive_as_json(value: object) -> None:
    fields = json.loads(made().spec(value).fields)
    call = Call.decode(fields[fields.index("data") + 1].encode())
    assert call.args == (json.loads(json.dumps(value)),)


class Text(str):
    """As libraries have them."""

    __slots__ = ()


class Real(float):
    """numpy's float64 is one."""


@pytest.mark.parametrize("value", [Text("x"), Real(1.5), {Text("k"): 1}])
def test_what_is_json_by_inheritance_is_json(value: object) -> None:
    assert made().spec(value).id


def test_a_number_too_long_to_be_written_is_refused_by_the_name_of_the_argument() -> None:
    with pytest.raises(InvalidField, match="argument 'name' must be JSON: Exceeds the limit"):
        made().call(10**5_000)


def test_of_several_arguments_the_one_that_is_no_json_is_named() -> None:
    def many(a: object, *rest: object, b: object = None, **more: object) -> None: ...

    registered = task(name="sample.many")(many)
    surrogate: dict[str, Any] = {"caf\udce9": 1}
    calls: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((1, 2, {3}), {}, "rest"),
        (({3}, 2), {"b": 1}, "a"),
        ((1,), {"b": {3}}, "b"),
        ((1,), {"c": 1, "d": {3}}, "more"),
        ((1,), surrogate, "more"),
    ]
    for args, kwargs, culprit in calls:
        with pytest.raises(InvalidField, match=f"argument '{culprit}' must be JSON"):
            registered.spec(*args, **kwargs)


# --- declarations that cannot be -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate_limit": "fast"}, "rate 'fast'"),
        ({"rate_limit": "0/s"}, "rate '0/s'"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": 1.5}, "max_concurrent"),
        ({"time_limit_s": 0}, "time_limit_s"),
        ({"soft_time_limit_s": 200}, "soft_time_limit_s"),
        ({"expires_s": -1}, "expires_s"),
        ({"result_ttl_s": -7}, "result_ttl_s"),
        ({"unique": 0}, "unique"),
        ({"priority": "urgent"}, "priority"),
        ({"queue": "a b"}, "queue"),
        ({"queue": "mail.low", "priority": "high"}, "priority"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**options)
    with pytest.raises(UnknownTask):
        by_name("sample.greet")


# --- unique and expiring calls ---------------------------------------------------------------


def test_the_same_call_has_the_same_lock_however_it_is_written() -> None:
    def send(to: str, copies: int = 1, *rest: int, loud: bool = False, **more: int) -> None: ...

    sent = task(name="sample.send", unique=True)(send)
    same = [sent.spec("a"), sent.spec(to="a"), sent.spec("a", 1), sent.spec("a", copies=1, loud=False)]
    assert len({job.lock for job in same}) == 1
    assert same[0].lock.startswith("turnstile:unique:")
    others = [sent.spec("b"), sent.spec("a", 2), sent.spec("a", loud=True), sent.spec("a", 1, 2), sent.spec("a", extra=1)]
    assert len({job.lock for job in [same[0], *others]}) == 6
    assert task(name="sample.other", unique=True)(send).spec("a").lock not in {job.lock for job in same}


def test_a_default_that_is_no_json_does_not_stand_in_the_way_of_a_unique_call() -> None:
    def send(to: str, at: object = object(), keyed: object = {1: 2}) -> None: ...

    sent = task(name="sample.send", unique=True)(send)
    assert sent.spec("a").lock == sent.spec(to="a").lock


@pytest.mark.parametrize(("unique", "lasts"), [(False, ""), (True, "done"), (60, "60.0"), (0.5, "0.5")])
def test_a_lock_lasts_until_the_job_is_done_or_for_a_time(unique: bool | float, lasts: str) -> None:
    job = made(unique=unique).spec("ann")
    assert (job.lasts, bool(job.lock)) == (lasts, unique is not False)
    assert ("unique" in json.loads(job.fields)) == (unique is True), "only such a lock is freed when the job ends"


def test_a_job_expires_from_when_it_may_start() -> None:
    registered = made(expires_s=60.0)

    def expires_at(due_at: float | None) -> float:
        fields = json.loads(registered.build(registered.defaults, ("ann",), {}, now=100.0, due_at=due_at).fields)
        return float(fields[fields.index("expires_at") + 1])

    assert [expires_at(None), expires_at(500.0), expires_at(20.0)] == [160.0, 560.0, 160.0]


@pytest.mark.parametrize("due_at", [math.nan, math.inf, -math.inf, 1e18])
def test_an_instant_that_never_comes_is_refused(due_at: float) -> None:
    registered = made()
    with pytest.raises(InvalidField, match="due_at"):
        registered.build(registered.defaults, ("ann",), {}, due_at=due_at)


@pytest.mark.parametrize("job_id", ["", "a:b", "a b", "é", "x" * 129])
def test_a_job_id_that_would_break_a_key_is_refused(job_id: str) -> None:
    with pytest.raises(InvalidField, match="job_id: only letters, digits, _ and -"):
        made().spec("ann", job_id=job_id)


def test_outside_a_job_there_is_no_running_job() -> None:
    with pytest.raises(LookupError):
        running_job()
    job = RunningJob("j", "q", 2, "w")
    set_running_job(job)
    assert running_job() is job


def test_a_task_with_hooks_belongs_to_a_state() -> None:
    assert not made().owned
    assert made(owned=True).owned
