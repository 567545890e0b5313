"""The long walk of the queue beside its model: `python tests/chaos/model.py [--steps 100000] [--seed 1]`.

The walk of tests/integration/test_queue_model.py from other seeds. Prints how often each move was made; ends with the shortest
moves that show it when both do not say the same.
"""

import argparse
import itertools
import json
import logging
import os
import sys
import time
from typing import Any

import by_hand  # noqa: F401  finds what follows
import hypothesis
import redis
import structlog
from hypothesis.stateful import run_state_machine_as_test
from servers import Server

EXAMPLES, LENGTH = 100, 50
PATIENCE_S = 600.0
"""On a busy machine a move that was sent again would look like one that the queue made twice."""


def main() -> None:
    """Reads the options and walks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    server = Server()
    server.start()
    os.environ["REDIS_URL"] = server.url
    try:
        walk(server.url, given.steps, given.seed)
    finally:
        server.remove()


def walk(url: str, steps: int, seed: int) -> None:
    """Portions from one seed after the other, until so many moves have been made."""
    from queue_machine import QueueMachine  # noqa: PLC0415  the tasks read the settings, which need the server's URL

    machine: Any = type("Machine", (QueueMachine,), {"client": redis.Redis.from_url(url, socket_timeout=PATIENCE_S)})
    how = hypothesis.settings(
        max_examples=EXAMPLES,
        stateful_step_count=LENGTH,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    began = time.monotonic()
    for number in itertools.count(seed):
        made = QueueMachine.made
        if made.total() >= steps:
            break
        run_state_machine_as_test(hypothesis.seed(number)(machine), settings=how)
        if sys.stderr.isatty():
            print(f"\r{made.total():,} of {steps:,} steps, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(
        json.dumps(
            {
                "steps": made.total(),
                "seed": seed,
                "seeds": number - seed,
                "seconds": round(seconds),
                "violations": 0,
                "moves": made,
            }
        )
    )
    print(
        f"{made.total():,} steps from {number - seed} seeds in {seconds:.0f} s: the queue and its model said the same after each"
    )


if __name__ == "__main__":
    main()
