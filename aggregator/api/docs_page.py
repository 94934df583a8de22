"""`GET /docs`: what the API is, for people. Swagger UI, with nothing from elsewhere."""

import asyncio
from importlib import import_module
from pathlib import Path

from aiohttp import web

from aggregator.api.responses import StaticResponse
from aggregator.api.sending import Sender
from aggregator.errors import NotFound

ASSETS = ("start.js", "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
"""What the page is made of, by name."""

_OURS = Path(__file__).parent / "page"
_PAGE = "docs.html"
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


def installed_ui() -> Path | None:
    """Where Swagger UI is, if it is installed."""
    try:
        return Path(import_module("swagger_ui_bundle").swagger_ui_path)
    except ImportError:
        return None


class DocsPage:
    """The handlers, and what they need: Swagger UI in a folder."""

    def __init__(self, ui: Path | None, sender: Sender) -> None:
        self._ui = ui
        self._sender = sender
        self._read: dict[str, StaticResponse] = {}

    def routes(self) -> list[web.RouteDef]:
        """The routes of these handlers."""
        return [web.get("/docs", self.page), web.get("/docs/{asset}", self.asset)]

    async def page(self, request: web.Request) -> web.StreamResponse:
        """This page."""
        return await self._answer(request, _PAGE)

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """What the page is made of."""
        name = request.match_info["asset"]
        if name not in ASSETS:
            raise NotFound(f"There is nothing at {request.path}.")
        return await self._answer(request, name)

    async def _answer(self, request: web.Request, name: str) -> web.StreamResponse:
        if self._ui is None:
            raise NotFound(
                "The page is not installed: pip install '.[docs]' where the source is. "
                "What it would show is at /openapi.json."
            )
        self._sender.check_room()
        if name not in self._read:
            self._read[name] = await asyncio.to_thread(_static, self._ui, name)
        return await self._sender.send(request, self._read[name].respond(request))


def _static(ui: Path, name: str) -> StaticResponse:
    ours = _OURS / name
    file = ours if ours.exists() else ui / name
    return StaticResponse(file.read_bytes(), _TYPES[file.suffix], _HEADERS)
