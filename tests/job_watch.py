"""Jobs in real workers, seen from outside: sent, waited for, held until the test lets them go."""

import time
from pathlib import Path
from typing import Any

import redis
import sample_tasks
from processes import wait_for
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs import keys
from jobs.queue.calling import enqueue
from jobs.queue.job import JobSpec

LIMIT_S = 20.0


def send(client: redis.Redis, job: JobSpec) -> str:
    """Enqueues the job; returns its id."""
    assert enqueue(client, job, now=time.time())
    return job.id


def status(client: redis.Redis, job_id: str) -> str:
    """The job's status as RQ names it."""
    return str((client.hget(keys.job(job_id), "status") or b"gone").decode())


def wait_until(client: redis.Redis, job_id: str, wanted: str) -> None:
    """Waits until the job has the status."""
    wait_for(lambda: status(client, job_id) == wanted, LIMIT_S, f"job {job_id} is {wanted}")


def result(client: redis.Redis, job_id: str) -> Any:
    """What the job returned, read with RQ, once it has ended well."""
    wait_until(client, job_id, "finished")
    return Job.fetch(job_id, connection=client, serializer=JSONSerializer).return_value()


def hold(client: redis.Redis, folder: Path, job_id: str = "held") -> str:
    """Sends a job that runs until the folder holds a file `go`."""
    return send(client, sample_tasks.hold.spec(str(folder), job_id=job_id))


def wait_for_file(path: Path) -> None:
    """Waits until the job has written the file."""
    wait_for(path.exists, LIMIT_S, f"the job writes {path.name}")
