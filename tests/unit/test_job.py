"""Jobs as RQ stores them: JSON all the way, readable by RQ itself, never a pickle."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.queue.backoff import Backoff
from jobs.queue.job import MAX_DESCRIPTION, Call, JsonJob
from jobs.queue.options import Options
from jobs.queue.task import Task

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")), st.lists, max_leaves=5
)


def add(a: object = None, b: object = None, **_more: object) -> None:
    """Never runs."""


def fields(*args: object, owned: bool = False, **kwargs: object) -> dict[str, str]:
    options = Options(time_limit_s=0.25, result_ttl_s=7)
    made = Task(add, name="sample.add", queue="q", options=options, retry=Backoff(), owned=owned, path="sample_tasks.add")
    flat = json.loads(made.build(options, args, kwargs, job_id="j", now=1.5).fields)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_a_job_carries_the_fields_that_rq_reads() -> None:
    made = fields(1, 2)
    assert made["data"] == '["sample_tasks.add",null,[1,2],{}]'
    assert (made["origin"], made["task"], made["description"]) == ("q", "sample.add", "sample.add(1, 2)")
    assert (made["created_at"], made["timeout"], made["time_limit_s"]) == ("1970-01-01T00:00:01.500000Z", "1", "0.25")
    assert (made["result_ttl"], made["failure_ttl"]) == ("7", "-1")
    assert "owned" not in made


def test_a_job_that_belongs_to_a_state_says_so() -> None:
    assert fields(owned=True)["owned"] == "1"


def test_rq_restores_the_job() -> None:
    made = fields(1, b="ü")
    job = Job("j", connection=object(), serializer=JSONSerializer)
    job.restore({key.encode(): value.encode() for key, value in made.items()})
    assert (job.func_name, job.args, job.kwargs) == ("sample_tasks.add", [1], {"b": "ü"})
    assert (job.origin, job.timeout, job.result_ttl, job.failure_ttl, job.retries_left) == ("q", 1, 7, -1, 3)


def test_rqs_job_class_of_ours_never_pickles_whatever_it_is_told() -> None:
    assert JsonJob("j", connection=object(), serializer="rq.serializers.PickleSerializer").serializer is JSONSerializer


@given(st.lists(JSON, max_size=3), st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), JSON, max_size=3))
def test_a_call_survives_the_way_there_and_back(args: list[object], kwargs: dict[str, object]) -> None:
    call = Call("a.b", tuple(args), kwargs)
    assert Call.decode(call.encode()) == call


class Planted:
    """What pickle would run."""

    ran = False

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import unit_test_planted",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        pickle.dumps(("os.getpid", None, (), {})),
        pickle.dumps(Planted()),
        b"null",
        b'["f", null, [], {}, 1]',
        b'["f", "instance", [], {}]',
        b"[1, null, [], {}]",
        b'["f", null, {}, []]',
        b'["f", null, [], {}',
        b'["\xff", null, [], {}]',
    ],
)
def test_data_that_is_no_json_call_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="the job's data is not a JSON call"):
        Call.decode(data)


@given(st.binary(max_size=80))
def test_no_data_crashes_the_reader(data: bytes) -> None:
    try:
        Call.decode(data)
    except ValueError as error:
        assert "not a JSON call" in str(error)


def test_a_long_description_is_cut() -> None:
    made = fields("x" * 500, k=1)
    assert len(made["description"]) == MAX_DESCRIPTION
    assert made["description"].endswith("…")
