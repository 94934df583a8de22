"""`GET /docs`: what the API is, for people. Swagger UI, with nothing from elsewhere."""

import asyncio
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from aiohttp import web

from aggregator.core.quoting import cut
from aggregator.errors import NotFound
from aggregator.route import Route, RouteContext, Routes, StaticResponse

ASSETS = ("start.js", "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
"""What the page is made of, by name."""

_OURS = Path(__file__).parent / "static"
_PAGE = "page.html"
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".png": "image/png",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class DocsPage(Routes):
    """Serves the page and what it is made of."""

    def __init__(self, context: RouteContext) -> None:
        super().__init__(context)
        self._swagger_ui = _installed_swagger_ui()
        self._read: dict[str, StaticResponse] = {}

    def routes(self) -> Sequence[Route]:
        """The page, and its parts."""
        page = _operation("showDescription", "A page.", {"text/html": {"type": "string"}})
        part = _operation("readAsset", "A part of it.", {"*/*": {}})
        part["parameters"] = [_ASSET, *part["parameters"]]
        return [
            Route("GET", "/docs", self.page, page, scope=None),
            Route("GET", "/docs/{asset}", self.asset, part, scope=None),
        ]

    async def page(self, request: web.Request) -> web.StreamResponse:
        """This page."""
        return await self._answer(request, _PAGE)

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """What the page is made of."""
        name = request.match_info["asset"]
        if name not in ASSETS:
            raise NotFound(f"There is nothing at {cut(request.path)}.")
        return await self._answer(request, name)

    async def _answer(self, request: web.Request, name: str) -> web.StreamResponse:
        if self._swagger_ui is None:
            raise NotFound(
                "The page is not installed: pip install 'event-aggregator[docs]'. "
                "What it would show is at /openapi.json."
            )
        self.context.check_room(request)
        if name not in self._read:
            self._read[name] = await asyncio.to_thread(_read, self._swagger_ui, name)
        return await self.context.send(request, self._read[name].respond(request))


def _installed_swagger_ui() -> Path | None:
    """The folder of Swagger UI, if it is installed."""
    try:
        return Path(import_module("swagger_ui_bundle").swagger_ui_path)
    except ImportError:
        return None


def _read(swagger_ui: Path, name: str) -> StaticResponse:
    ours = _OURS / name
    file = ours if ours.exists() else swagger_ui / name
    return StaticResponse(file.read_bytes(), _TYPES[file.suffix], _HEADERS)


_ETAG = {"ETag": "ETag"}
_ASSET = {
    "in": "path",
    "name": "asset",
    "required": True,
    "description": "Its name.",
    "schema": {"type": "string", "enum": list(ASSETS)},
}
_IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "description": "The ETag of an answer that the client has.",
    "schema": {"type": "string"},
}


def _operation(name: str, meaning: str, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    return {
        "operationId": name,
        "tags": ["description"],
        "responses": {
            "200": {"description": meaning, "content": content, "headers": _ETAG},
            "304": {"description": "The client has it already.", "headers": _ETAG},
            **{status: status for status in ("404", "421", "500", "503")},
        },
        "parameters": [_IF_NONE_MATCH],
    }
