"""/v1/entries and /v1/footfall: events in, counted series out."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import InvalidField, Malformed, TooLarge
from jobs.mall import entries, footfall
from jobs.mall.entries import MAX_EVENTS, Entry, EntryRequest
from jobs.mall.footfall import STEPS, Series, Summary
from web.admission import Kind
from web.http import answer, known_query, read_body
from web.operation import Operation, Parameter
from web.state import state

NDJSON = "application/x-ndjson"
DEFAULT_SPAN = timedelta(days=1)


class LineError(msgspec.Struct, frozen=True):
    """A refused line of an NDJSON body; `line` counts from 1."""

    line: int
    error: str


class EntriesAnswer(msgspec.Struct, frozen=True):
    """What became of the events. An accepted event is counted exactly once."""

    accepted: Annotated[int, msgspec.Meta(ge=0)]
    duplicates: Annotated[int, msgspec.Meta(ge=0)]
    rejected: list[LineError]


async def post_entries(request: Request) -> Response:
    """Count entries: one, or up to 10000 as NDJSON. The same event sent again is a duplicate, counted once."""
    here = state(request)
    body = await read_body(request)
    here.admission.check(Kind.ENTRIES)
    if not body.strip():
        raise Malformed("the body is empty, a JSON object is needed")
    parse = partial(entries.parse, settings=here.settings, zone=here.zone, now=time.time())
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    accepted, rejected = _read_lines(body, parse) if media_type == NDJSON else ([parse(body)], [])
    fresh = await here.coalescer.submit(accepted) if accepted else []
    new = sum(fresh)
    return answer(EntriesAnswer(new, len(fresh) - new, rejected), 202, {"Location": "/v1/footfall/summary"})


def _read_lines(body: bytes, parse: Callable[[bytes], Entry]) -> tuple[list[Entry], list[LineError]]:
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), start=1) if line.strip()]
    if len(lines) > MAX_EVENTS:
        raise TooLarge(f"at most {MAX_EVENTS} events are taken at once")
    accepted: list[Entry] = []
    rejected: list[LineError] = []
    for number, line in lines:
        try:
            accepted.append(parse(line))
        except (InvalidField, Malformed) as error:
            rejected.append(LineError(number, str(error)))
    return accepted, rejected


async def get_footfall(request: Request) -> Response:
    """The counted series in UTC buckets, by default the last day by the hour. Buckets without anybody are left out."""
    known_query(request, "from", "to", "bucket", "gate")
    here, query, now = state(request), request.query_params, datetime.now(UTC)
    bucket = query.get("bucket", "hour")
    if bucket not in STEPS:
        raise InvalidField("bucket", f"must be one of {', '.join(STEPS)}")
    end = _instant("to", query.get("to"), now + timedelta(seconds=here.settings.entry_max_ahead_s + 60))
    start = _instant("from", query.get("from"), end - DEFAULT_SPAN)
    minutes_from = now - timedelta(days=here.settings.minutes_keep_days)
    found = await footfall.series(
        here.redis, start=start, end=end, bucket=bucket, gate=query.get("gate"), minutes_from=minutes_from
    )
    return answer(found)


async def get_summary(request: Request) -> Response:
    """Accepted, counted and pending events, and the people of today. accepted = counted + pending in every answer."""
    known_query(request)
    here = state(request)
    return answer(await footfall.summary(here.redis, zone=here.zone, now=time.time()))


def _instant(name: str, text: str | None, default: datetime) -> datetime:
    if text is None:
        return default
    try:
        # A plus sign in a query string stands for a blank: 10:00:00 02:00 was meant as an offset.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise InvalidField(name, "must be RFC 3339, as in 2026-11-21T10:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


RFC3339 = {"type": "string", "format": "date-time"}
BUCKET = {"type": "string", "enum": list(STEPS), "default": "hour"}
SERIES = (
    Parameter("from", "start, included", schema=RFC3339),
    Parameter("to", "end, not included", schema=RFC3339),
    Parameter("bucket", "width of a bucket", schema=BUCKET),
    Parameter("gate", "only this gate"),
)
TAKEN = ("application/json", NDJSON)
OPERATIONS = (
    Operation("POST", "/v1/entries", post_entries, request=EntryRequest, response=EntriesAnswer, status=202, media_types=TAKEN),
    Operation("GET", "/v1/footfall", get_footfall, response=Series, parameters=SERIES),
    Operation("GET", "/v1/footfall/summary", get_summary, response=Summary, also=(422,)),
)
