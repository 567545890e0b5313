"""Jobs that kill the process they run in, among 5,000 good ones: `python tests/chaos/score_poison.py`.

Each way of dying equally often: `os._exit`, a fault in C, and SIGKILL after eating memory, as the kernel does it. Two
CpuWorkers with two children each. A poison job must be quarantined after just three crashes, and the good ones must neither
be lost nor lose an attempt.
"""

import random
from collections import Counter
from typing import Any

import score_ground
from processes import wait_for
from score_ground import LIMIT_S, ground

from jobs.queue.ending import MAX_CRASHES

GOOD, POISON = 5_000, 30
WAYS = ("exit", "fault", "memory")
WORK_S = 0.002
QUEUE = "default"


def measure(seed: int) -> tuple[dict[str, Any], str, int]:
    """One run."""
    chance = random.Random(seed)
    with ground() as base:
        from score_tasks import poison, work  # noqa: PLC0415  it reads the settings, which need the server's URL

        base.schedulers(1)
        base.until_at_work(*(base.worker("CpuWorker", QUEUE, TURNSTILE_CPU_CHILDREN="2") for _ in range(2)))
        good: list[str] = []
        poisonous: list[str] = []
        places = sorted(chance.sample(range(GOOD), POISON))
        for number, (start, stop) in enumerate(zip([0, *places], [*places, GOOD], strict=True)):
            good += [handle.id for handle in work.enqueue_many([(WORK_S,)] * (stop - start))]
            if number < POISON:
                poisonous.append(poison.delay(WAYS[number % len(WAYS)]).id)
        ended = ("finished", "dead")
        wait_for(lambda: sum(base.total(field, QUEUE) for field in ended) >= GOOD + POISON, LIMIT_S, "all jobs end")
        runs = Counter(line.split()[0] for line in (base.folder / "poison").read_text().splitlines())
        states = base.fields(good, "status", "failures", "crashes")
        verdicts = base.fields(poisonous, "status", "error_type", "failures")
        crashed = base.total("reclaimed", QUEUE) + POISON - MAX_CRASHES * POISON
        twice = sum(n != 1 for n in base.ends(good))
    lost = sum(status != "finished" for status, _failures, _crashes in states)
    burned = sum(int(failures or 0) for _status, failures, _rest in states) + sum(int(row[2] or 0) for row in verdicts)
    quarantined = sum(row[:2] == ["failed", "Quarantined"] for row in verdicts)
    exactly = sum(runs[job_id] == MAX_CRASHES for job_id in poisonous)
    figures: dict[str, Any] = {
        "good": GOOD,
        "poison": POISON,
        "good_lost": lost,
        "good_doubled": twice,
        "quarantined": quarantined,
    }
    figures |= {"after_exactly_3_crashes": exactly, "attempts_burned": burned, "crashes_of_neighbours": crashed}
    text = (
        f"{POISON} poison jobs among {GOOD:,} good ones: {quarantined} quarantined, {exactly} after just {MAX_CRASHES} crashes; "
        f"good ones lost {lost}, doubled {twice}; attempts burned by crashes {burned}"
    )
    return figures, text, lost + burned + twice + 2 * POISON - quarantined - exactly


if __name__ == "__main__":
    score_ground.main(__doc__ or "", measure)
