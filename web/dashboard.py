"""rq-dashboard at /rq: its pages to look at, Redrive, and nothing else of it (docs/decisions/0003-rq-dashboard.md).

The Flask blueprint runs in a few threads of the web process. Its readers are replaced by those of `dashboard_jobs`, so
no pickle is loaded and no GET writes; its buttons are refused; its templates escape. Pages of other origins are
refused for the whole web, in web/security.py.
"""

import re
import secrets
from collections.abc import Callable
from typing import Any, cast

import redis
from a2wsgi import WSGIMiddleware
from flask import Flask, Response, g, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from rq.exceptions import NoSuchJobError
from rq.serializers import JSONSerializer
from rq_dashboard import web as upstream
from starlette.types import ASGIApp
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from jobs import log
from jobs.connections import AWAY, shown_url
from jobs.errors import NotFound, TurnstileError
from web.audit import who
from web.dashboard_jobs import PLACES, ReadingRedis, ShownJob, ShownWorker, page_of_jobs
from web.problems import DEFAULTS, MEDIA_TYPE, TYPE, TYPES, retry_after

THREADS = 2
"""Half of the connections that a sync client has (jobs/connections.py): admission and redriving need some too."""

VIEWS = frozenset({"queues_overview", "workers_overview", "jobs_overview", "job_view"})
DATA = frozenset({"list_queues", "list_workers", "list_jobs", "job_info"})
FILES = frozenset({"static", "favicon"})
REDRIVE = "requeue_job_view"
BOUNDS = {
    "registry_name": re.compile("|".join(PLACES)),
    "per_page": re.compile(r"[1-9][0-9]?|1[0-9]{2}|200"),
    "page": re.compile(r"[1-9][0-9]{0,6}"),
}
"""Arguments of the pages that would cost much or be an error otherwise."""

HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""underscore compiles its templates with `new Function`, hence 'unsafe-eval'; scripts without the nonce do not run."""

READ_ONLY = (
    "rq-dashboard only shows and redrives jobs here. Dead letters are discarded, jobs cancelled and queues purged "
    "with the API under /v1, which /docs describes."
)

logger = log.get("dashboard")


def dashboard_app(redis_url: str, redis: redis.Redis, redrive: Callable[[str, str], None]) -> ASGIApp:
    """The app to mount at /rq. `redis_url` is only shown, without its secrets. `redrive` is given a job and who
    wants it, and may raise NotFound and Conflict."""
    _take_places()
    app = Flask(__name__, template_folder="templates", static_folder=None)
    app.jinja_env.autoescape = True  # Flask leaves .js templates unescaped
    app.config.update(RQ_DASHBOARD_REDIS_URL=(shown_url(redis_url),), RQ_DASHBOARD_DISABLE_DELETE=True)
    app.redis_conn = ReadingRedis(redis)  # where rq-dashboard looks for it
    app.register_blueprint(upstream.blueprint, url_prefix="")
    app.before_request_funcs["rq_dashboard"] = []  # only push_rq_connection, which would connect by the URL for each request
    app.context_processor(lambda: {"csp_nonce": g.nonce})
    app.before_request(_guard)
    app.after_request(_harden)
    for kind in (*AWAY, HTTPException, NoSuchJobError, TurnstileError):
        app.register_error_handler(kind, _on_error)

    def redrive_one(job_id: str) -> ResponseReturnValue:
        redrive(job_id, who(request.environ["asgi.scope"]))
        return {"status": "OK"}

    app.view_functions[f"rq_dashboard.{REDRIVE}"] = redrive_one
    # a2wsgi spells WSGI and ASGI out with types of its own.
    return cast(ASGIApp, WSGIMiddleware(cast(Any, app), workers=THREADS))


def _take_places() -> None:
    """Puts our readers in place of RQ's own inside rq_dashboard.web. Raises AttributeError when that module has changed."""
    for name, replacement in {
        "Job": ShownJob,
        "Worker": ShownWorker,
        "get_queue_registry_jobs_count": _list_jobs,
        "RedisConnectionError": (),  # `except ()`: a lost connection is no page with status 200
    }.items():
        if not hasattr(upstream, name):
            raise AttributeError(f"rq_dashboard.web has no {name}; web/dashboard.py must be looked at again")
        setattr(upstream, name, replacement)
    upstream.config.serializer = JSONSerializer


def _list_jobs(*place: Any) -> tuple[int, list[dict[str, Any]]]:
    total, jobs = page_of_jobs(*place)
    return total, [upstream.serialize_job(job) for job in jobs]


def _guard() -> ResponseReturnValue | None:
    """Lets the known pages, data and files be read and a job be redriven; all else is refused before rq-dashboard's code runs."""
    g.nonce = secrets.token_urlsafe(16)
    if request.routing_exception is not None and not isinstance(request.routing_exception, MethodNotAllowed):
        return None  # Flask raises it next: 404, or a redirect to the path with its slash
    if request.method == "POST" and _endpoint() == REDRIVE:
        return None
    if request.method not in ("GET", "HEAD") or _endpoint() not in VIEWS | DATA | FILES:
        return _problem(403, READ_ONLY)
    args = request.view_args or {}
    if not all(bound.fullmatch(str(args[name])) for name, bound in BOUNDS.items() if name in args):
        return _problem(404, "There is no such page.")
    return None


def _harden(response: Response) -> Response:
    response.headers.update(HEADERS)
    response.headers["Content-Security-Policy"] = POLICY.format(nonce=g.get("nonce", ""))
    # Files of the package hold no secrets: a browser may keep them, and asks whether they are still the same.
    response.headers["Cache-Control"] = "no-cache" if _endpoint() in FILES else "no-store"
    return response


def _on_error(error: Exception) -> Response:
    match error:
        case HTTPException():
            return _problem(error.code or 500, error.description or error.name)
        case NoSuchJobError():
            return _problem(404, "There is no such job; finished jobs expire.")
        case TurnstileError():
            return _problem(404 if isinstance(error, NotFound) else 409, str(error))
    logger.warning("Redis cannot be read", path=request.path, error=str(error))
    response = _problem(503, "Redis cannot be read at the moment; the page works again when Redis does.")
    response.headers.update(retry_after())
    return response


def _problem(status: int, detail: str) -> Response:
    """A page where a page was asked for, problem+json elsewhere."""
    name = DEFAULTS.get(status, "internal")
    title = TYPES[name][1]
    if _endpoint() in VIEWS:
        return Response(render_template("rq_dashboard/problem.html", title=title, detail=detail), status)
    response = jsonify(type=TYPE + name, title=title, status=status, detail=detail, instance=request.root_path + request.path)
    response.status_code, response.mimetype = status, MEDIA_TYPE
    return response


def _endpoint() -> str:
    return (request.endpoint or "").removeprefix("rq_dashboard.")
