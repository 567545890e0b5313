"""rq-dashboard at /rq: its pages to look at, and nothing else of it (docs/decisions/0003-rq-dashboard.md).

The Flask blueprint runs in a few threads of the web process. Its readers are replaced by those of
`dashboard_jobs`, so no pickle is loaded and no GET writes; its buttons are refused; its templates escape.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from a2wsgi import WSGIMiddleware
from flask import Flask, Response, g, jsonify, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask.typing import ResponseReturnValue
from rq.exceptions import NoSuchJobError
from rq.serializers import JSONSerializer
from rq_dashboard import web as upstream
from starlette.types import ASGIApp
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from jobs import log
from jobs.connections import shown_url
from jobs.errors import NotFound, TurnstileError
from web.dashboard_jobs import REGISTRIES, ReadingRedis, ShownJob, ShownQueue, ShownWorker, page_of_jobs, shown_registry
from web.problems import MEDIA_TYPE, REDIS_RETRY_AFTER_S, TITLES, TYPE

THREADS = 2
"""Half of the connections that a sync client has (jobs/connections.py): admission and redriving need some too."""
MAX_PER_PAGE = 200
MAX_PAGE = 1_000_000

VIEWS = frozenset({"queues_overview", "workers_overview", "jobs_overview", "job_view"})
DATA = frozenset({"list_queues", "list_workers", "list_jobs", "job_info"})
FILES = frozenset({"static", "favicon"})
REDRIVE = "requeue_job_view"

PAGE_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""underscore compiles its templates with `new Function`, hence 'unsafe-eval'; scripts without the nonce do not run."""
OTHER_POLICY = "default-src 'none'; frame-ancestors 'none'"

READ_ONLY = (
    "rq-dashboard only shows jobs here. Dead letters are redriven and discarded, jobs cancelled and queues purged "
    "with the API under /v1, which /docs describes."
)

logger = log.get("dashboard")


class _NeverRaised(Exception):
    """Stands where rq-dashboard would turn a lost connection into a page with status 200."""


class _StrictJson(DefaultJSONProvider):
    """JSON that browsers read: NaN and the infinities, which Python writes bare, become text."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        try:
            return str(super().dumps(obj, allow_nan=False, **kwargs))
        except ValueError:
            plain = super().dumps(obj, **kwargs)
            return str(super().dumps(json.loads(plain, parse_constant=str), allow_nan=False, **kwargs))


class _JsText(str):
    """Text for between the quotes of a JavaScript string, where jobs.js puts the queue's name as it is."""

    def __html__(self) -> str:
        escaped = json.dumps(str(self))[1:-1]
        for character in "<>&'":
            escaped = escaped.replace(character, f"\\u{ord(character):04x}")
        return escaped


def dashboard_app(redis_url: str, redis: redis.Redis, redrive: Callable[[str], None] | None = None) -> ASGIApp:
    """The app to mount at /rq. `redis_url` is only shown, without its secrets.

    `redrive(job_id)`, where given, serves the Redrive buttons, which are missing otherwise. It may raise NotFound and Conflict.
    """
    _take_places()
    app = Flask(__name__, template_folder="templates", static_folder=None)
    app.json = _StrictJson(app)
    app.jinja_env.autoescape = True  # Flask leaves .js templates unescaped
    app.jinja_env.filters["js_text"] = _JsText
    app.config.update(RQ_DASHBOARD_REDIS_URL=(shown_url(redis_url),), RQ_DASHBOARD_DISABLE_DELETE=True)
    app.redis_conn = ReadingRedis(redis)  # where rq-dashboard looks for it
    app.register_blueprint(upstream.blueprint, url_prefix="")
    app.before_request_funcs["rq_dashboard"] = []  # only push_rq_connection, which would connect by the URL for each request
    app.context_processor(lambda: {"csp_nonce": g.nonce, "can_redrive": redrive is not None})
    app.before_request(lambda: _guard(may_redrive=redrive is not None))
    app.after_request(_harden)
    _handle_errors(app)
    if redrive is not None:

        def redrive_one(job_id: str) -> ResponseReturnValue:
            redrive(job_id)
            return {"status": "OK"}

        app.view_functions[f"rq_dashboard.{REDRIVE}"] = redrive_one
    # a2wsgi spells WSGI and ASGI out with types of its own.
    return cast(ASGIApp, WSGIMiddleware(cast(Any, app), workers=THREADS))


def _take_places() -> None:
    """Puts our readers in place of RQ's own inside rq_dashboard.web. Raises AttributeError when that module has changed."""
    places: dict[str, Any] = {
        "Job": ShownJob,
        "Queue": ShownQueue,
        "Worker": ShownWorker,
        "RedisConnectionError": _NeverRaised,
        "requeue_job": None,
        "get_queue_registry_jobs_count": _list_jobs,
        **{kind.__name__: shown_registry(kind) for kind in REGISTRIES.values()},
    }
    for name, replacement in places.items():
        if not hasattr(upstream, name):
            raise AttributeError(f"rq_dashboard.web has no {name}; web/dashboard.py must be looked at again")
        setattr(upstream, name, replacement)
    upstream.config.serializer = JSONSerializer


def _list_jobs(*place: Any) -> tuple[int, list[dict[str, Any]]]:
    total, jobs = page_of_jobs(*place)
    return total, [upstream.serialize_job(job) for job in jobs]


def _guard(*, may_redrive: bool) -> ResponseReturnValue | None:
    """Lets the known pages, data and files be read; anything else is refused before rq-dashboard's code runs."""
    g.nonce = secrets.token_urlsafe(16)
    if request.routing_exception is not None:
        return None  # Flask raises it next: 404, 405 or a redirect to the path with its slash
    endpoint = _endpoint()
    if request.method in ("GET", "HEAD"):
        if endpoint not in VIEWS | DATA | FILES:
            return _problem(405, READ_ONLY, Allow="")
        if not _in_bounds(request.view_args or {}):
            return _problem(404, f"There is no such page; a page has 1 to {MAX_PER_PAGE} jobs.")
        return None
    if request.method != "POST":
        return _problem(405, READ_ONLY, Allow="GET, HEAD")
    if not (may_redrive and endpoint == REDRIVE):
        return _problem(403, READ_ONLY)
    if not _from_own_page():
        return _problem(403, "Only the dashboard's own page may ask for this.")
    return None


def _from_own_page() -> bool:
    """Tells whether a browser says that one of our pages sent the request. A client that says nothing uses the API."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        return bool(urlsplit(origin).netloc == request.host)  # not the scheme: a proxy may have ended TLS
    return site is not None


def _in_bounds(args: dict[str, Any]) -> bool:
    per_page, page = str(args.get("per_page", 1)), str(args.get("page", 1))
    return (
        args.get("instance_number", 0) == 0
        and args.get("registry_name", "queued") in ("queued", *REGISTRIES)
        and args.get("order", "asc") in ("asc", "dsc")
        and all(number.isascii() and number.isdigit() and len(number) <= 7 for number in (per_page, page))
        and 1 <= int(per_page) <= MAX_PER_PAGE
        and 1 <= int(page) <= MAX_PAGE
    )


def _harden(response: Response) -> Response:
    nonce = g.get("nonce", "")
    html = response.mimetype == "text/html"
    response.headers["Content-Security-Policy"] = PAGE_POLICY.format(nonce=nonce) if html else OTHER_POLICY
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    # Files of the package hold no secrets: a browser may keep them, and asks whether they are still the same.
    response.headers["Cache-Control"] = "no-cache" if _endpoint() in FILES else "no-store"
    return response


def _handle_errors(app: Flask) -> None:
    @app.errorhandler(redis.exceptions.RedisError)
    def redis_away(error: redis.exceptions.RedisError) -> Response:
        logger.warning("Redis cannot be read", path=request.path, error=str(error))
        detail = "Redis cannot be read at the moment; the page works again when Redis does."
        return _problem(503, detail, **{"Retry-After": str(REDIS_RETRY_AFTER_S)})

    @app.errorhandler(NoSuchJobError)
    def no_such_job(error: NoSuchJobError) -> Response:
        return _problem(404, "There is no such job; finished jobs expire.")

    @app.errorhandler(TurnstileError)
    def not_redriven(error: TurnstileError) -> Response:
        return _problem(404 if isinstance(error, NotFound) else 409, str(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        allow = {"Allow": ", ".join(error.valid_methods or ())} if isinstance(error, MethodNotAllowed) else {}
        return _problem(error.code or 500, READ_ONLY if allow else error.description or error.name, **allow)


def _problem(status: int, detail: str, **headers: str) -> Response:
    """A page where a page was asked for, problem+json elsewhere."""
    name, title = TITLES.get(status, (f"http-{status}", "Error"))
    if _endpoint() in VIEWS and request.method in ("GET", "HEAD"):
        response = Response(render_template("rq_dashboard/problem.html", title=title, detail=detail), status)
    else:
        response = jsonify(type=TYPE + name, title=title, status=status, detail=detail, instance=request.root_path + request.path)
        response.status_code, response.mimetype = status, MEDIA_TYPE
    response.headers.update(headers)
    return response


def _endpoint() -> str:
    return (request.endpoint or "").removeprefix("rq_dashboard.")
