"""structlog set-up: one event a line, with what the context bound (job_id, order_id, attempt, trace id).

Lines for people on a terminal, JSON elsewhere; `TURNSTILE_LOG_FORMAT` decides otherwise.
The standard library's loggers (rq, uvicorn, httpx) go through the same lines.
"""

import logging
import sys
from typing import Any, TextIO

import structlog
from rq.exceptions import StopRequested
from rq.timeouts import BaseTimeoutException

from jobs.settings import Settings
from jobs.trace import add_trace_id

QUIET = ("httpx", "httpcore", "rq.scripts", "rq_scheduler.scheduler", "uvicorn", "asyncio")

INTERRUPTIONS = (StopRequested, BaseTimeoutException)
"""What RQ's signal handlers raise, wherever the signal finds the process."""


class Lines(logging.StreamHandler[TextIO]):
    """Writes the lines. A stop or time limit that comes meanwhile goes on: the standard handler takes it for an error."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Called inside `emit`'s except clause."""
        if isinstance(sys.exc_info()[1], INTERRUPTIONS):
            raise
        super().handleError(record)


def configure(settings: Settings, *, process: str) -> None:
    """Sets up logging for this process; called once at its edge."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if not console:
        shared.append(lambda _logger, _method, event: {**event, "process": process})
        renderer: Any = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=20)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        cache_logger_on_first_use=True,
    )
    handler = Lines(sys.stderr)
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def get(name: str) -> Any:
    """A logger; `Any` because structlog's bound loggers are built at run time."""
    return structlog.get_logger(name)
