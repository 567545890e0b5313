"""What the end of a job means for the canvas that it is a member of: effects for the MULTI of the job's own write.

`canvas_field` is the job's hash field `canvas`, `<canvas id>:<node>`; empty for a job that is no member. All may run twice.
"""

from jobs import keys
from jobs.queue.hooks import Effect
from jobs.queue.script import beside

TOLD = beside(__file__, "canvas_told")
MAX_ERROR = 500


def finished(canvas_field: str, result_json: str, now: float) -> list[Effect]:
    """The job succeeded: what waits for its result goes on."""
    return _told("finished", canvas_field, result_json, now)


def ended(canvas_field: str, what: str, error: str, now: float) -> list[Effect]:
    """The job ended without a result; `what` is dead, expired, cancelled or discarded."""
    return _told("ended", canvas_field, f"{what}: {error}"[:MAX_ERROR], now)


def redriven(canvas_field: str, now: float) -> list[Effect]:
    """The job's dead letter goes back to its queue."""
    return _told("redriven", canvas_field, "", now)


def _told(what: str, canvas_field: str, text: str, now: float) -> list[Effect]:
    canvas_id, _, node = canvas_field.partition(":")
    return [Effect(TOLD, [keys.canvas(canvas_id)], [what, node, text, repr(now)])] if node.isdigit() else []
