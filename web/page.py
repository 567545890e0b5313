"""The operations page at `/`: what an operator needs at three in the morning, and its few buttons.

Rendered here and readable without scripts; static/live.js only fetches the same main part again.
A button posts a form. It counts when the browser says that our own page sent it, and when it carries the
token of the browser's cookie: that needs no memory, so any of several web processes can tell.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

import redis
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from jobs.connections import is_away
from jobs.errors import Conflict, NotFound, TooLarge
from jobs.queue import dead_letters, overview
from web.audit import audit
from web.banners import REDIS_AWAY, banners
from web.html import HEADERS, STATIC, html, message
from web.http import read_body
from web.operations import read
from web.state import state

COOKIE = "turnstile_form"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
MAX_FORM_FIELDS = 10
LETTERS_SHOWN = 8
ROWS_SHOWN = 50
RETRY_AFTER_S = 2


class Forged(Exception):
    """Raised when a form was not sent by our own page."""

    def __str__(self) -> str:
        return "The form did not come from this page as this browser has it. Open the page again; programs use the API."


@dataclass(frozen=True, slots=True)
class Action:
    """A button: its words in the audit trail, the part of the page to return to, and what to ask before it is done."""

    what: str
    back_to: str
    perform: Callable[[redis.Redis, str], object]
    question: str = ""


async def operations_page(request: Request) -> Response:
    """The page; with `?fragment` only its main part. 503 with a banner while Redis is away."""
    here, now = state(request), time.time()
    template = "operations.html" if "fragment" in request.query_params else "page.html"
    try:
        operations = await read(here, now)
    except (redis.exceptions.RedisError, TimeoutError) as error:
        if not (isinstance(error, TimeoutError) or is_away(error)):
            raise
        answer: Response = html(template, 503, operations=None, banners=[REDIS_AWAY], now=now)
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        return answer
    token = _token(request) or secrets.token_urlsafe(32)
    answer = html(
        template,
        operations=operations,
        banners=banners(operations, here.settings),
        now=now,
        token=token,
        base_url=str(request.base_url),
        with_key=bool(here.settings.api_keys),
        letters_shown=LETTERS_SHOWN,
        rows_shown=ROWS_SHOWN,
    )
    _set_token(request, answer, token)
    return answer


async def confirm(request: Request) -> Response:
    """Asks before something is deleted. Changes nothing."""
    name, target = request.path_params["action"], request.query_params.get("target", "")
    action = ACTIONS.get(name)
    if action is None or not action.question:
        return message(404, "There is no such page", "Actions are buttons on the operations page.")
    try:
        letter, count = await run_in_threadpool(_victims, state(request).sync_redis, name, target)
    except NotFound as error:
        return message(404, "Nothing is left to do", f"There is {error}: somebody else was first.")
    except redis.exceptions.RedisError as error:
        return _away(error)
    token = _token(request) or secrets.token_urlsafe(32)
    answer = html("confirm.html", action=action, name=name, target=target, letter=letter, count=count, token=token)
    _set_token(request, answer, token)
    return answer


async def act(request: Request) -> Response:
    """Does what a button says and leads back to the page."""
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        return message(404, "There is no such action", "It may have been renamed; open the page again.")
    try:
        form = await _form(request)
        target = form.get("target", "")
        if action.question and form.get("confirmed") != "yes":
            return RedirectResponse(f"{request.url.path}?target={quote(target, safe='')}", 303)
        await run_in_threadpool(action.perform, state(request).sync_redis, target)
        await audit(request, action.what, target)
    except (Forged, TooLarge) as error:
        return message(403, "Nothing was done", str(error))
    except NotFound as error:
        return message(404, "Nothing is left to do", f"There is {error}: somebody else was first.")
    except Conflict as error:
        return message(409, "That cannot be done now", str(error))
    except redis.exceptions.RedisError as error:
        return _away(error)
    return RedirectResponse(f"/#{action.back_to}", 303)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form that our own page sent. Raises Forged, and TooLarge."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is None:
        raise Forged
    if site not in (None, "same-origin"):
        raise Forged
    # The scheme is left out: a proxy may have ended TLS.
    if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
        raise Forged
    try:
        form = dict(parse_qsl((await read_body(request)).decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise Forged from None
    token = _token(request)
    if token is None or not hmac.compare_digest(token.encode(), form.get("token", "").encode()):
        raise Forged
    return form


def _token(request: Request) -> str | None:
    token = request.cookies.get(COOKIE, "")
    return token if TOKEN.fullmatch(token) else None


def _set_token(request: Request, answer: Response, token: str) -> None:
    if _token(request) is None:
        # Lax, not strict: a visit through a link from elsewhere would otherwise make the forms of open tabs stale.
        answer.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=request.url.scheme == "https")


def _away(error: redis.exceptions.RedisError) -> Response:
    if not is_away(error):
        raise error
    detail = "It may or may not have been done: look at the page again when Redis is back."
    return message(503, REDIS_AWAY.title, detail)


def _victims(client: redis.Redis, name: str, target: str) -> tuple[dead_letters.DeadLetter, int]:
    """One of the dead letters that would be discarded, and how many they are. Raises NotFound."""
    if name == "discard":
        return dead_letters.get(client, target), 1
    letters = _of_group(client, target)
    return letters[0], len(letters)


def _of_group(client: redis.Redis, group: str) -> list[dead_letters.DeadLetter]:
    letters, _more = dead_letters.page(client, group=group, cursor=None, limit=dead_letters.count(client) + 1)
    if not letters:
        raise NotFound("group of dead letters", group)
    return letters


def _discard_group(client: redis.Redis, group: str) -> None:
    """Discards one after the other. Killed in the middle it can simply be done again."""
    for letter in _of_group(client, group):
        try:
            dead_letters.discard(client, letter.id)
        except NotFound:
            continue  # somebody else redrove or discarded it in the meantime


def _redrive_group(client: redis.Redis, group: str) -> None:
    if not dead_letters.redrive_all(client, group=group, rate_per_s=None):
        raise NotFound("group of dead letters", group)


def _on_queue(change: Callable[[redis.Redis, str], None]) -> Callable[[redis.Redis, str], None]:
    def perform(client: redis.Redis, name: str) -> None:
        if name not in overview.queue_names(client):
            raise NotFound("queue", name)
        change(client, name)

    return perform


ACTIONS: dict[str, Action] = {
    "pause-queue": Action("pause queue", "queues", _on_queue(overview.pause)),
    "resume-queue": Action("resume queue", "queues", _on_queue(overview.resume)),
    "redrive": Action("redrive", "dead-letters", lambda client, job_id: dead_letters.redrive(client, job_id)),
    "redrive-group": Action("redrive group", "dead-letters", _redrive_group),
    "discard": Action("discard", "dead-letters", dead_letters.discard, "Discard this dead letter?"),
    "discard-group": Action("discard group", "dead-letters", _discard_group, "Discard this group of dead letters?"),
}


class _Static(StaticFiles):
    """Files whose URL changes with their content."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came
        answer.headers.update({**HEADERS, "Cache-Control": "max-age=86400"})
        return answer


def routes() -> list[BaseRoute]:
    """The page, its actions and its files."""
    return [
        Route("/", operations_page, methods=["GET"]),
        Route("/actions/{action}", confirm, methods=["GET"]),
        Route("/actions/{action}", act, methods=["POST"]),
        Mount("/static", app=_Static(directory=STATIC)),
    ]
