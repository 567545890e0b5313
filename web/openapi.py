"""/openapi.json: OpenAPI 3.1, generated from the operations and from the types that validate."""

import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from web import webhook_document
from web.operation import Operation, Parameter
from web.problems import DEFAULTS, MEDIA_TYPE, TYPE, TYPES, Problem
from web.routes import conditional

PATH_PARAMETER = re.compile(r"\{(\w+)\}")
REF = "#/components/schemas/{name}"
VERSION = "1"
HEADERS = {
    "traceparent": ("The request's trace, a new span of it (W3C Trace Context).", False),
    "ETag": ("Names this state of the answer; send it back as If-None-Match.", True),
    "Location": ("Where what was accepted can be looked at.", True),
    "Idempotency-Replayed": ("`true` when this is the answer to an earlier request with the same key.", False),
    "Retry-After": ("Seconds to wait before the same request is sent again.", True),
    "RateLimit": ("What is left of the client's share, and when it is whole again.", False),
    "RateLimit-Policy": ("The client's share.", False),
}
"""What each header says, and whether an answer that the document gives it to always has it."""
IF_NONE_MATCH = Parameter("If-None-Match", "ETags that the client has, or `*`: 304 when it holds", "header")
SECURITY_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key; each call says the scopes of which it needs one."},
    "device": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "HMAC-SHA-256 in the form of Standard Webhooks, with webhook-id, webhook-timestamp and webhook-key.",
    },
}


class ServerSentEvent(msgspec.Struct):
    """One event of a stream. `data` is JSON."""

    data: str
    event: str = "message"
    id: str | None = None


OTHERS = {"text/event-stream": ServerSentEvent, "text/html": str, "text/plain": str}
"""Answers that are not the operation's type as JSON."""


LINES = Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"pattern": r"\S"})]


def document(operations: Sequence[Operation], *, asks_for_keys: bool = True) -> dict[str, Any]:
    """The OpenAPI document of the operations."""
    types = [
        Problem,
        ServerSentEvent,
        webhook_document.BODY,
        *(kind for operation in operations for kind in (operation.request, operation.response) if kind is not None),
    ]
    _schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    _tell_of_numbers(components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        found = paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
        found["security"] = _security(operation) if asks_for_keys else [{}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnstile",
            "version": VERSION,
            "description": "Counts the people who enter a mall and delivers its orders. Instants in `_at` are Unix seconds, UTC.",
        },
        "paths": paths,
        "webhooks": webhook_document.webhooks(),
        "components": {
            "schemas": components,
            "headers": {name: _header(*told) for name, told in HEADERS.items()},
            "responses": {name: _problem(status) for status, name in DEFAULTS.items()},
            "parameters": {IF_NONE_MATCH.name: IF_NONE_MATCH},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def endpoint(operations: Sequence[Operation], *, asks_for_keys: bool) -> Callable[[Request], Awaitable[Response]]:
    """Serves the document, rendered once."""
    body = msgspec.json.encode(document(operations, asks_for_keys=asks_for_keys))

    async def serve(request: Request) -> Response:
        return conditional(Response(body, media_type="application/json"), request.headers.get("if-none-match", ""))

    return serve


def _operation(operation: Operation) -> dict[str, Any]:
    given = {parameter.name for parameter in operation.parameters}
    in_path = [
        Parameter(name, where="path", required=True) for name in PATH_PARAMETER.findall(operation.path) if name not in given
    ]
    kept = [{"$ref": f"#/components/parameters/{IF_NONE_MATCH.name}"}] if operation.is_kept() else []
    found: dict[str, Any] = {
        "summary": operation.says(),
        "description": f"Scope: {' or '.join(sorted(operation.needs())) or 'none, no key is needed'}.",
        "operationId": operation.handler.__name__,
        "parameters": [*in_path, *operation.parameters, *kept],
        "responses": _responses(operation),
    }
    if operation.request is not None:
        bodies = {kind: operation.request if kind == "application/json" else LINES for kind in operation.media_types}
        content = {kind: _schema(body) for kind, body in bodies.items()}
        for kind, value in operation.examples.items():
            content[kind]["example"] = value
        found["requestBody"] = {"required": not operation.body_optional, "content": content}
    return found


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    scopes = sorted(operation.needs())
    return [{scheme: [scope]} for scheme in SECURITY_SCHEMES for scope in scopes] or [{}]


def _responses(operation: Operation) -> dict[str, Any]:
    names = ("traceparent", *(["ETag"] if operation.is_kept() else []), *operation.headers)
    well: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase, "headers": _headers(*names)}
    if operation.response is not None or "application/json" not in operation.response_media_types:
        bodies = {kind: OTHERS.get(kind, operation.response) for kind in operation.response_media_types}
        well["content"] = {kind: _schema(body) for kind, body in bodies.items()}
    if operation.links:
        ids = {"id": "$response.body#/id"}
        well["links"] = {to.__name__: {"operationId": to.__name__, "parameters": ids} for to in operation.links}
    found = {str(operation.status): well}
    for status in operation.statuses():
        if status < HTTPStatus.BAD_REQUEST:
            names = ("traceparent", "ETag") if status == HTTPStatus.NOT_MODIFIED else ("traceparent",)
            found[str(status)] = {"description": HTTPStatus(status).phrase, "headers": _headers(*names)}
        else:
            found[str(status)] = {"$ref": f"#/components/responses/{DEFAULTS[status]}"}
    return found


def _problem(status: int) -> dict[str, Any]:
    """An error answer: a problem of one of the types that this status may have."""
    types = [TYPE + name for name, (of, _title) in TYPES.items() if of == status]
    schema = {"allOf": [*_schema(Problem).values(), {"properties": {"type": {"enum": types}, "status": {"const": status}}}]}
    names = (
        "traceparent",
        *(["Retry-After"] if status in (429, 503) else []),
        *(["RateLimit", "RateLimit-Policy"] if status == 429 else []),
    )
    return {"description": TYPES[DEFAULTS[status]][1], "headers": _headers(*names), "content": {MEDIA_TYPE: {"schema": schema}}}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(description: str, required: bool) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"}}


def _tell_of_numbers(schema: Any) -> None:
    """What is written as a decimal is text; what is read as one may be a number too, and then has bounds."""
    if isinstance(schema, dict) and schema.get("format") == "decimal" and "minimum" in schema:
        schema["type"] = ["string", "number"]
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _tell_of_numbers(inner)


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _components = msgspec.json.schema_components([kind], ref_template=REF)
    return {"schema": schema}
