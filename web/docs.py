"""/docs: Swagger UI over /openapi.json, served from an installed package; nothing comes from a CDN.

The package is flask-swagger-ui, of which only the files are used: swagger-ui-bundle stopped at
Swagger UI 4.15, which refuses OpenAPI 3.1. All scripts are files, so the policy allows no inline script.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Route

FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
HEADERS = {
    # Swagger UI sets style attributes and shows its icons as data: URLs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Turnstile API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null
});
"""


def docs_routes() -> list[BaseRoute]:
    """The page and its files. Its addresses are relative, so that a proxy may serve all of it under a prefix."""
    return [Route("/docs", _page), Route("/docs/start.js", _start), Route("/docs/{name}", _file)]


async def _page(request: Request) -> Response:
    return HTMLResponse(PAGE, headers=HEADERS)


async def _start(request: Request) -> Response:
    return Response(START, media_type="text/javascript", headers=HEADERS)


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404, f"no file {name!r} belongs to this page")
    return FileResponse(str(files("flask_swagger_ui") / "dist" / name), media_type=FILES[name], headers=HEADERS)
