"""How an order follows the fate of its job: attempts, death, redrive, discard, each in the MULTI of the job's own write."""

from typing import Any

from jobs import keys
from jobs.queue.hooks import Effect, Ending
from jobs.queue.script import beside

FOLLOW = beside(__file__, "follow")


class OrderHooks:
    """Hooks of the tasks whose first argument is an order id."""

    def retried(self, ending: Ending) -> list[Effect]:
        """The order's attempt ends with its error; its status stays."""
        return _follow("retried", ending.args, ending.job_id, ending.error, ending.ended_at)

    def died(self, ending: Ending) -> list[Effect]:
        """The order becomes dead, for the reason of its job's death."""
        return _follow("died", ending.args, ending.job_id, ending.error, ending.ended_at)

    def redriven(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The order goes on at the step that failed."""
        return _follow("redriven", args, job_id, "", now)

    def discarded(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The order stays dead for good; its stock is given back."""
        return _follow("discarded", args, job_id, "", now)


def _follow(what: str, args: tuple[Any, ...], job_id: str, error: str, now: float) -> list[Effect]:
    order_id = str(args[0])
    return [Effect(FOLLOW, [keys.order(order_id)], [what, order_id, job_id, error, repr(now)])]
