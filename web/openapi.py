"""/openapi.json: OpenAPI 3.1, generated from the operations and from the types that validate."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from web.operation import Operation
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
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def endpoint(operations: Sequence[Operation]) -> Callable[[Request], Awaitable[Response]]:
    """Serves the document, rendered once."""
    body = msgspec.json.encode(document(operations))

    async def serve(_request: Request) -> Response:
        return Response(body, media_type="application/json")

    return serve


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.handler.__name__,
        "parameters": [*_path_parameters(operation.path), *_parameters(operation)],
        "responses": _responses(operation),
    }
    if operation.request is not None:
        schema = _schema(operation.request)
        content = {
            kind: {"schema": schema if kind == "application/json" else {"type": "string"}} for kind in operation.media_types
        }
        found["requestBody"] = {"required": True, "content": content}
    return found


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in PATH_PARAMETER.findall(path)]


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": parameter.name,
            "in": parameter.where,
            "description": parameter.description,
            "required": parameter.required,
            "schema": parameter.schema,
        }
        for parameter in operation.parameters
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.response is not None:
        content = {"content": {operation.response_media_type: {"schema": _schema(operation.response)}}}
    elif operation.response_media_type != "application/json":
        content = {"content": {operation.response_media_type: {"schema": {"type": "string"}}}}
    responses: dict[str, Any] = {str(operation.status): {"description": HTTPStatus(operation.status).phrase, **content}}
    problem = {MEDIA_TYPE: {"schema": _schema(Problem)}}
    for status in sorted({*operation.errors, 401, 500}):
        responses[str(status)] = {"description": TITLES[status][1], "content": problem}
    return responses


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _components = msgspec.json.schema_components([kind], ref_template=REF)
    return schema
