"""/openapi.json: OpenAPI 3.1, generated from the operations and from the types that validate."""

import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from web.operation import Operation, Parameter
from web.problems import MEDIA_TYPE, TITLES, Problem

PATH_PARAMETER = re.compile(r"\{(\w+)\}")
REF = "#/components/schemas/{name}"
VERSION = "1"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of the operations."""
    types = [Problem, *(kind for operation in operations for kind in (operation.request, operation.response) if kind is not None)]
    _schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnstile",
            "version": VERSION,
            "description": "Counts the people who enter a mall and delivers its orders. Instants in `_at` are Unix seconds, UTC.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def endpoint(operations: Sequence[Operation]) -> Callable[[Request], Awaitable[Response]]:
    """Serves the document, rendered once."""
    body = msgspec.json.encode(document(operations))

    async def serve(_request: Request) -> Response:
        return Response(body, media_type="application/json")

    return serve


def _operation(operation: Operation) -> dict[str, Any]:
    in_path = [Parameter(name, where="path", required=True) for name in PATH_PARAMETER.findall(operation.path)]
    found: dict[str, Any] = {
        "summary": operation.says(),
        "operationId": operation.handler.__name__,
        "parameters": [*in_path, *operation.parameters],
        "responses": _responses(operation),
    }
    if operation.request is not None:
        bodies = {kind: operation.request if kind == "application/json" else str for kind in operation.media_types}
        content = {kind: _schema(body) for kind, body in bodies.items()}
        found["requestBody"] = {"required": not operation.body_optional, "content": content}
    return found


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {str(operation.status): {"description": HTTPStatus(operation.status).phrase}}
    if operation.response is not None or "application/json" not in operation.response_media_types:
        bodies = {kind: operation.response if "json" in kind else str for kind in operation.response_media_types}
        found[str(operation.status)]["content"] = {kind: _schema(body) for kind, body in bodies.items()}
    for status in operation.statuses():
        if status < HTTPStatus.BAD_REQUEST:
            found[str(status)] = {"description": HTTPStatus(status).phrase}
        else:
            found[str(status)] = {"description": TITLES[status][1], "content": {MEDIA_TYPE: _schema(Problem)}}
    return found


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _components = msgspec.json.schema_components([kind], ref_template=REF)
    return {"schema": schema}
