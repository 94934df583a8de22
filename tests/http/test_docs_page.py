"""The page that shows the API asks nobody else for anything, and says how it is installed."""

import re
import sys

import pytest
from bodies import PROBLEM

from conftest import Client, Start

ASSETS = {
    "start.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


async def test_page_names_only_what_is_beside_it(client: Client) -> None:
    async with client.get("/docs") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        policy = response.headers["Content-Security-Policy"]
        page = await response.text()
    named = set(re.findall(r'(?:href|src)="([^"]*)"', page))
    assert named == {"openapi.json", *(f"docs/{name}" for name in ASSETS)}
    assert "//" not in re.sub("<!--.*?-->", "", page)
    assert "default-src 'none'" in policy
    assert "http" not in policy


@pytest.mark.parametrize(("name", "media_type"), ASSETS.items())
async def test_asset_is_sent_once(client: Client, name: str, media_type: str) -> None:
    async with client.get(f"/docs/{name}") as response:
        assert (response.status, response.content_type) == (200, media_type)
        assert len(await response.read()) == int(response.headers["Content-Length"]) > 0
        tag = response.headers["ETag"]
    async with client.get(f"/docs/{name}", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with client.head(f"/docs/{name}") as response:
        assert (response.status, response.headers["ETag"]) == (200, tag)


async def test_page_shows_our_description_and_asks_no_validator(client: Client) -> None:
    async with client.get("/docs/start.js") as response:
        script = await response.text()
    assert 'url: "openapi.json"' in script
    assert "validatorUrl: null" in script


@pytest.mark.parametrize(
    "path", ["docs.html", "index.html", "%2e%2e%2fapp.py", "..%2f..%2fsetup.cfg", "a/b", "", "%00"]
)
async def test_nothing_else_is_served(client: Client, path: str) -> None:
    async with client.get(f"/docs/{path}") as response:
        assert (response.status, response.content_type) == (404, PROBLEM)


async def test_without_swagger_ui_the_page_says_what_to_install(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "swagger_ui_bundle", None)  # as if it were not installed
    client = await start()
    for path in ("/docs", "/docs/start.js"):
        async with client.get(path) as response:
            assert (response.status, response.content_type) == (404, PROBLEM)
            assert "pip install 'event-aggregator[docs]'" in await response.text()
