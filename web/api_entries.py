"""/v1/entries and /v1/footfall: events in, counted series out."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.access.scopes import Scope
from jobs.errors import InvalidField, Malformed
from jobs.mall import entries, footfall
from jobs.mall.entries import EntryRequest
from jobs.mall.footfall import STEPS, Series, Summary
from web import examples
from web.admission import Kind
from web.http import answer, known_query, read_body
from web.ndjson import EntriesAnswer, Intake
from web.operation import Operation, Parameter, said
from web.state import state

NDJSON = "application/x-ndjson"
DEFAULT_SPAN = timedelta(days=1)
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""What a series may be asked for: a day before and a day behind it are still instants."""
PATH = "/v1/entries"
LOCATION = "/v1/footfall/summary"
JSON = "application/json"
ANSWERS = {new: msgspec.json.encode(EntriesAnswer(int(new), int(not new), [])) for new in (True, False)}
"""To a single entry that was new, and to one that was not."""


async def post_entries(request: Request) -> Response:
    """Count entries: one, or up to 10000 as NDJSON. The same event sent again is a duplicate, counted once."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == NDJSON:
        return answer(await Intake(request).take(), 202, {"Location": LOCATION})
    here, body = state(request), await read_body(request)
    if not body.strip():
        raise Malformed("the body is empty, a JSON object is needed")
    entry = entries.parse(body, settings=here.settings, zone=here.zone, now=time.time())
    [new] = await here.admission.carry(Kind.ENTRIES, partial(here.coalescer.submit, (entry,)))
    return Response(ANSWERS[new], 202, {"Location": LOCATION}, JSON)


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
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not FIRST <= moment < LAST:
        raise InvalidField(name, f"must lie between {FIRST:%Y} and {LAST:%Y}")
    return moment


RFC3339 = {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}
BUCKET = {"type": "string", "enum": list(STEPS), "default": "hour"}
SERIES = (
    Parameter("from", "start, included", schema=RFC3339),
    Parameter("to", "end, not included", schema=RFC3339),
    Parameter("bucket", "width of a bucket", schema=BUCKET),
    Parameter("gate", "only this gate"),
)
MEDIA_TYPES = (JSON, NDJSON)
TEXT, NUMBER, NONE = {"type": "string"}, {"type": "integer"}, {"type": "null"}
ONE_IDENTITY = said(
    oneOf=[
        {"required": ["event_id"], "properties": {"event_id": TEXT, "sensor": NONE, "seq": NONE}},
        {"required": ["sensor", "seq"], "properties": {"event_id": NONE, "sensor": TEXT, "seq": NUMBER}},
    ]
)
OPERATIONS = (
    Operation(
        "POST",
        PATH,
        post_entries,
        request=Annotated[EntryRequest, ONE_IDENTITY],
        response=EntriesAnswer,
        status=202,
        media_types=MEDIA_TYPES,
        scopes=(Scope.ENTRIES,),
        headers=("Location",),
        examples={JSON: examples.ENTRY, NDJSON: examples.ENTRIES},
    ),
    Operation("GET", "/v1/footfall", get_footfall, response=Series, parameters=SERIES),
    Operation("GET", "/v1/footfall/summary", get_summary, response=Summary, also=(422,)),
)
