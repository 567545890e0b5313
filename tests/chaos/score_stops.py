"""Graceful stops of busy workers: `python tests/chaos/score_stops.py`.

Two CpuWorkers and two IoWorkers run jobs of up to a second. Forty times one of each kind gets a SIGTERM at a random instant,
and is started again: how long until it has ended, and whether a job was lost, run twice or lost an attempt.
"""

import random
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import score_ground
from processes import Process, wait_for
from score_ground import LIMIT_S, Ground, ground, share

ROUNDS = 20
KINDS = {"CpuWorker": "cpu", "IoWorker": "io"}
"""And the queue of each."""
WORK_S = (0.01, 0.05, 0.2, 1.0)
WAITING = 60
STOP_LIMIT_S = 30.0
"""After which a platform kills."""


@dataclass
class Stops:
    """One run."""

    base: Ground
    chance: random.Random
    ids: list[str] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def start(self, kind: str) -> Process:
        """A worker of the kind."""
        return self.base.worker(kind, KINDS[kind], TURNSTILE_CPU_CHILDREN="2", TURNSTILE_IO_SLOTS="8")

    def feed(self) -> bool:
        """Keeps jobs waiting on both queues."""
        from score_tasks import work  # noqa: PLC0415  it reads the settings, which need the server's URL

        for queue in KINDS.values():
            waiting = int(self.base.client.llen(f"rq:queue:{queue}"))
            if waiting < WAITING:
                calls = [(self.chance.choice(WORK_S),) for _ in range(WAITING)]
                self.ids += [handle.id for handle in work.options(queue=queue).enqueue_many(calls)]
        return True

    def stop(self, victims: list[Process]) -> None:
        """SIGTERM to them; waits for their ends."""
        pause_until = time.monotonic() + self.chance.random()
        wait_for(lambda: self.feed() and time.monotonic() > pause_until, LIMIT_S, "a random instant")
        began = time.monotonic()
        for victim in victims:
            victim.send(signal.SIGTERM)
        left = list(victims)
        while left:
            self.feed()
            for victim in [victim for victim in left if not victim.runs]:
                self.took_s.append(time.monotonic() - began)
                self.codes.append(victim.ended(STOP_LIMIT_S))
                left.remove(victim)
            if time.monotonic() - began > STOP_LIMIT_S:
                raise AssertionError(f"{[victim.name for victim in left]} did not end within {STOP_LIMIT_S:g} s")
            time.sleep(0.002)


def measure(seed: int) -> tuple[dict[str, Any], str, int]:
    """One run."""
    with ground() as base:
        run = Stops(base, random.Random(seed))
        base.schedulers(1)
        running = {kind: [run.start(kind) for _ in range(2)] for kind in KINDS}
        for _ in range(ROUNDS):
            base.until_at_work(*(worker for workers in running.values() for worker in workers))
            victims = [workers.pop(0) for workers in running.values()]
            run.stop(victims)
            for kind, workers in running.items():
                workers.append(run.start(kind))
        wait_for(lambda: base.total("finished", *KINDS.values()) >= len(run.ids), LIMIT_S, "all jobs end")
        states = base.fields(run.ids, "status", "failures", "crashes")
        twice = sum(n != 1 for n in base.ends(run.ids))
        reclaimed = base.total("reclaimed", *KINDS.values())
    lost = sum(status != "finished" for status, _failures, _crashes in states)
    burned = sum(int(failures or 0) for _status, failures, _crashes in states)
    p50, p99, longest = (round(share(run.took_s, part), 2) for part in (0.5, 0.99, 1.0))
    odd = sum(code != 0 for code in run.codes)
    figures: dict[str, Any] = {
        "stops": len(run.took_s),
        "p50_s": p50,
        "p99_s": p99,
        "max_s": longest,
        "jobs": len(run.ids),
        "lost": lost,
    }
    figures |= {"doubled": twice, "attempts_burned": burned, "reclaimed": reclaimed, "exit_codes_not_0": odd}
    text = (
        f"{len(run.took_s)} graceful stops of busy workers: ended after {p50} s (p50), {p99} s (p99), {longest} s at most; "
        f"of {len(run.ids):,} jobs {lost} lost, {twice} doubled, {reclaimed} reclaimed, {burned} attempts burned"
    )
    return figures, text, lost + twice + burned + reclaimed + odd


if __name__ == "__main__":
    score_ground.main(__doc__ or "", measure)
