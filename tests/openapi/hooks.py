"""What schemathesis cannot know of the API; loaded by its command line (schemathesis.toml)."""

import json
import uuid
from typing import Any

import schemathesis

NDJSON = "application/x-ndjson"


@schemathesis.serializer(NDJSON)
def ndjson(_context: Any, value: Any) -> bytes:
    """The text as it is; anything else as one line."""
    return (value if isinstance(value, str) else json.dumps(value)).encode()


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    """A line that is no entry is reported in the answer, which is 202: no body of lines is wrong as a whole."""
    return case.media_type != NDJSON or isinstance(case.body, str)


@schemathesis.hook
def filter_body(_context: Any, body: Any) -> bool:
    """What a receiver's address may be depends on the network."""
    return not (isinstance(body, dict) and isinstance(body.get("notify_url"), str))


@schemathesis.hook
def map_headers(_context: Any, headers: Any) -> Any:
    """Another key for each order: the same key with another order is refused."""
    if headers and headers.get("Idempotency-Key"):
        headers = {**headers, "Idempotency-Key": str(uuid.uuid4())}
    return headers
