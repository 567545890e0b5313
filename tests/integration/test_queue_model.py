"""The queue against its model: a short walk. `python tests/chaos/model.py` takes the long one."""

from typing import Any

import hypothesis
import redis
from hypothesis.stateful import run_state_machine_as_test
from queue_machine import QueueMachine

from jobs.settings import Settings

EXAMPLES = 100
STEPS = 50


def test_the_queue_does_what_its_model_does(redis_client: redis.Redis, settings: Settings) -> None:
    machine: Any = type("Machine", (QueueMachine,), {"client": redis_client})
    run_state_machine_as_test(machine, settings=hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
