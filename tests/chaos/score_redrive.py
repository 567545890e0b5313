"""10,000 dead letters are redriven while scheduler and worker are killed: `python tests/chaos/score_redrive.py`.

All are redriven by one request. The scheduler that leads gets a SIGKILL in the middle of it,
and one of two workers a SIGKILL while it works them off; each is started again.
"""

import random
import time
from typing import Any

import score_ground
from processes import wait_for
from score_ground import LIMIT_S, Ground, ground

from jobs.queue import claiming, ending, redrives
from jobs.queue.attempts import failed_attempt

LETTERS = 10_000
QUEUE = "default"
AT_ONCE = 500
WORK_S = 0.1
"""So that a worker always has some in its hands when it is killed."""


def measure(seed: int) -> tuple[dict[str, Any], str, int]:
    """One run."""
    chance = random.Random(seed)
    with ground() as base:
        from score_tasks import work  # noqa: PLC0415  it reads the settings, which need the server's URL

        ids = [handle.id for handle in work.enqueue_many([(WORK_S,)] * LETTERS)]
        _bury_all(base)
        schedulers = base.schedulers(2)
        workers = [base.worker("IoWorker", QUEUE) for _ in range(2)]
        base.until_at_work(*workers)
        record = redrives.request(base.client, "redrive", by="score")

        def moved() -> int:
            return redrives.get(base.client, record.id).done

        goal = chance.randrange(LETTERS // 5, LETTERS // 2)
        wait_for(lambda: moved() >= goal, LIMIT_S, "letters are moved")
        leader, victim = base.leader(schedulers), chance.choice(workers)
        assert leader is not None
        victim.kill()
        leader.kill()
        at_kill = moved()
        base.processes.start("python", "-m", "scheduler")
        base.worker("IoWorker", QUEUE)
        wait_for(lambda: redrives.get(base.client, record.id).state == "done", LIMIT_S, "the redrive ends")
        wait_for(lambda: base.total("finished", QUEUE) >= LETTERS, LIMIT_S, "all jobs end")
        found = base.fields(ids, "status", "redrives")
        lost = sum(status != "finished" for status, _redrives in found)
        twice = sum(times != "1" for _status, times in found) + sum(n != 1 for n in base.ends(ids))
        ended = redrives.get(base.client, record.id)
        reclaimed = base.total("reclaimed", QUEUE)
    wrong = lost + twice + abs(ended.done - LETTERS) + ended.refused
    seconds = (ended.ended_at or 0.0) - ended.requested_at
    figures: dict[str, Any] = {
        "letters": LETTERS,
        "moved_at_kill": at_kill,
        "redriven_once": LETTERS - twice,
        "lost": lost,
        "reclaimed": reclaimed,
    }
    text = (
        f"{LETTERS:,} dead letters redriven in {seconds:.1f} s, the leading scheduler and a worker killed at {at_kill:,}: "
        f"{LETTERS - twice:,} redriven and finished just once, {lost} lost, {twice} doubled"
    )
    return {**figures, "redrive_s": round(seconds, 2)}, text, wrong


def _bury_all(base: Ground) -> None:
    """What a worker does with jobs that fail for good, by hand."""
    executions = [f"hand-{number}" for number in range(AT_ONCE)]
    while claims := claiming.claim(base.client, [QUEUE], "hand", LIMIT_S, now=time.time(), executions=executions).jobs:
        for claim in claims:
            ending.bury(base.client, claim, failed_attempt(1, claim.started_at, time.time(), "hand", ValueError("no")))


if __name__ == "__main__":
    score_ground.main(__doc__ or "", measure)
