"""/docs: Swagger UI over /openapi.json, served from an installed package; nothing comes from a CDN.

The package is flask-swagger-ui, of which only the files are used: swagger-ui-bundle stopped at
Swagger UI 4.15, which refuses OpenAPI 3.1. All scripts are files, so the policy allows no inline script.
"""

from importlib.resources import files
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from web.html import HEADERS, STATIC, TEMPLATES
from web.routes import conditional

SWAGGER_UI = Path(str(files("flask_swagger_ui"))) / "dist"
FILES = {
    "swagger-ui.css": SWAGGER_UI,
    "swagger-ui-bundle.js": SWAGGER_UI,
    "favicon-32x32.png": SWAGGER_UI,
    "docs.js": STATIC,
}
DOCS_HEADERS = HEADERS | {
    # Swagger UI sets style attributes and shows its icons as data: URLs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


def docs_routes() -> list[BaseRoute]:
    """The page and its files. Its addresses are relative, so that a proxy may serve all of it under a prefix."""
    return [Route("/docs", _page), Route("/docs/{name}", _file)]


async def _page(_request: Request) -> Response:
    return FileResponse(TEMPLATES / "docs.html", headers=DOCS_HEADERS)


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404, f"no file {name!r} belongs to this page")
    path = FILES[name] / name
    file = FileResponse(path, headers=DOCS_HEADERS, stat_result=path.stat())
    return conditional(file, request.headers.get("if-none-match", ""))
