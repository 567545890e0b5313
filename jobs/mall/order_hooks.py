"""How an order follows the fate of its job: attempts, death, redrive, discard, each in the MULTI of the job's own write."""

from typing import Any

from jobs import keys
from jobs.queue.hooks import Effect, Ending
from jobs.queue.script import beside

ATTEMPT_FAILED = beside(__file__, "attempt_failed")
DIED = beside(__file__, "died")
REDRIVEN = beside(__file__, "redriven")
DISCARDED = beside(__file__, "discarded")


class OrderHooks:
    """Hooks of the tasks whose first argument is an order id."""

    def retried(self, ending: Ending) -> list[Effect]:
        """The order's attempt ends with its error; its status stays."""
        order_id = str(ending.args[0])
        return [Effect(ATTEMPT_FAILED, [keys.order(order_id)], [order_id, ending.error, repr(ending.ended_at)])]

    def died(self, ending: Ending) -> list[Effect]:
        """The order becomes dead, for the reason of its job's death."""
        order_id = str(ending.args[0])
        return [Effect(DIED, [keys.order(order_id)], [order_id, ending.job_id, ending.error, repr(ending.ended_at)])]

    def redriven(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The order goes on at the step that failed."""
        order_id = str(args[0])
        return [Effect(REDRIVEN, [keys.order(order_id)], [order_id, job_id, repr(now)])]

    def discarded(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The order stays dead for good; its stock is given back."""
        order_id = str(args[0])
        return [Effect(DISCARDED, [keys.order(order_id)], [order_id, job_id, repr(now)])]
