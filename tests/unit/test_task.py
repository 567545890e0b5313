"""Tasks: the allow-list, and calls that cannot work refused where they are made."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.errors import InvalidField, UnknownTask
from jobs.queue import task as task_module
from jobs.queue.backoff import Backoff
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


@pytest.mark.parametrize("value", [object(), "caf\udce9", {1j: 1}])
def test_arguments_that_are_not_json_are_refused(value: object) -> None:
    with pytest.raises(InvalidField, match="arguments must be JSON"):
        made().spec(value)


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
