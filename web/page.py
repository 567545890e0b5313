"""The operations page at `/`: what an operator needs at three in the morning, and its few buttons.

Rendered here and readable without scripts; static/live.js only fetches the same main part again.
A button posts a form. It counts when the browser says that our own page sent it, and when it carries the
token of the browser's cookie: that needs no memory, so any of several web processes can tell.
"""

import hmac
import secrets
import time
from typing import Any
from urllib.parse import parse_qsl, quote

import redis
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from jobs.connections import is_away
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue import audit as trail
from jobs.queue import canvas_store, control, dead_letters, delayed, redrives, schedules
from jobs.queue.started import started
from web.actions import ACTIONS, QUESTIONS
from web.audit import who
from web.banners import REDIS_AWAY, banners
from web.html import FILES, HEADERS, STATIC, html, message
from web.http import read_body
from web.operations import Operations, read
from web.problems import retry_after
from web.state import state

COOKIE = "turnstile_form"
MAX_FORM_FIELDS = 10
LETTERS_SHOWN = 8
ACTIONS_SHOWN = 5
RUNNING_SHOWN = 20
CANVASES_SHOWN = 10
SCHEDULES_SHOWN = 50
"""As many as the template shows rows."""
DELAYED_SHOWN = 8


async def operations_page(request: Request) -> Response:
    """The page; with `?fragment` only its main part. 503 with a banner while Redis is away."""
    here, now = state(request), time.time()
    template = "operations.html" if "fragment" in request.query_params else "page.html"
    try:
        operations = await read(here, now)
        lists = await run_in_threadpool(_lists, here.sync_redis, operations, request.query_params.get("q", ""))
    except redis.exceptions.RedisError as error:
        if not is_away(error):
            raise
        answer = html(template, 503, operations=None, banners=[REDIS_AWAY], now=now)
        answer.headers.update(retry_after())
        return answer
    return _with_buttons(
        request,
        template,
        operations=operations,
        banners=banners(operations, here.settings, here.admission.refused),
        now=now,
        base_url=str(request.base_url),
        with_key=here.settings.asks_for_keys,
        **lists,
    )


def _lists(client: redis.Redis, operations: Operations, q: str) -> dict[str, Any]:
    """What only the page shows, by the template's names; `q` is what is searched for among the delayed jobs."""
    return {
        "running": started(client, [queue.name for queue in operations.queues if queue.started], RUNNING_SHOWN),
        "canvases": canvas_store.open_canvases(client, CANVASES_SHOWN + 1),
        "canvases_shown": CANVASES_SHOWN,
        "letters": dead_letters.page(client, group=None, cursor=None, limit=LETTERS_SHOWN)[0],
        "groups": dead_letters.groups(client),
        "redrives": redrives.still_open(client),
        "last_runs": {one.name: schedules.last_run(client, one.name) for one in operations.schedules[:SCHEDULES_SHOWN]},
        "waiting": delayed.page(client, limit=DELAYED_SHOWN, q=q),
        "q": q,
        "pools": control.pool_scales(client, operations.workers),
        "actions": trail.page(client, cursor=None, limit=ACTIONS_SHOWN)[0],
    }


async def action_page(request: Request) -> Response:
    """Does what a button says and leads back to the page. What is for good is asked about first, and no GET changes anything."""
    name = request.path_params["action"]
    try:
        if request.method == "POST" and name in ACTIONS:
            return await _act(request, name)
        if request.method != "POST" and name in QUESTIONS:
            target = request.query_params.get("target", "")
            asked = await run_in_threadpool(QUESTIONS[name], state(request).sync_redis, target)
            return _with_buttons(request, "confirm.html", action=name, back_to=ACTIONS[name][0], **asked)
    except NotFound as error:
        return message(404, "Nothing is left to do", f"There is {error}: somebody else was first.")
    except (Conflict, InvalidField) as error:
        return message(409, "Nothing was done", f"{error}.")
    except redis.exceptions.RedisError as error:
        if not is_away(error):
            raise
        return message(503, REDIS_AWAY.title, "It may or may not have been done: look at the page again when Redis is back.")
    return message(404, "There is no such action", "Actions are buttons on the operations page: open it again.")


async def _act(request: Request, name: str) -> Response:
    form = await _form(request)
    if form is None:
        detail = "The form did not come from this page as this browser has it. Open the page again; programs use the API."
        return message(403, "Nothing was done", detail)
    target, client = form.get("target", ""), state(request).sync_redis
    if name in QUESTIONS and form.get("confirmed") != "yes":
        return RedirectResponse(f"{request.url.path}?target={quote(target, safe='')}", 303)
    back_to, perform = ACTIONS[name]
    await run_in_threadpool(perform, client, {**form, "target": target}, who(request))
    return RedirectResponse(f"/#{back_to}", 303)


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a form; None unless our own page sent it."""
    # security.py has refused every other origin; without Sec-Fetch-Site the Origin that it compared must be there.
    site = request.headers.get("sec-fetch-site", "same-origin" if "origin" in request.headers else "")
    try:
        form = dict(parse_qsl((await read_body(request)).decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        return None
    token = request.cookies.get(COOKIE, "")
    ours = site == "same-origin" and token and hmac.compare_digest(token.encode(), form.get("token", "").encode())
    return form if ours else None


def _with_buttons(request: Request, template: str, **values: Any) -> Response:
    """A page with forms: they carry the token of the browser's cookie, which it is given if it has none."""
    known = request.cookies.get(COOKIE)
    token = known or secrets.token_urlsafe(32)
    answer = html(template, token=token, **values)
    if not known:
        # Lax, not strict: a visit through a link from elsewhere would otherwise make the forms of open tabs stale.
        answer.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=request.url.scheme == "https")
    return answer


async def static_file(request: Request) -> Response:
    """A file whose URL changes with its content."""
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(STATIC / name, headers=HEADERS | {"Cache-Control": "max-age=86400"})


def routes() -> list[BaseRoute]:
    """The page, its actions and its files."""
    return [
        Route("/", operations_page),
        Route("/actions/{action}", action_page, methods=["GET", "POST"]),
        Route("/static/{name}", static_file),
    ]
