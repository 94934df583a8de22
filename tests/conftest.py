"""Fixtures: the real app in this process on either store, and the real service in its own."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from aggregator.app import create_app
from aggregator.configuration import load
from aggregator.plugins import Plugins
from aggregator.receiving import body
from running import Service

NOTHING_SKIPPED = "NOTHING_MAY_BE_SKIPPED"
"""Set in the environment where everything is installed that tests need."""

Client = TestClient[Any, Any]
Start = Callable[..., Awaitable[Client]]


@pytest.fixture(params=["sqlite", "memory"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store; every test that asks for it runs once on each kind."""
    return {"sqlite": f"sqlite:///{tmp_path}/aggregator.db", "memory": "memory:"}[request.param]


@pytest.fixture
async def start(store_url: str) -> AsyncIterator[Start]:
    """Starts the app with settings of the test's own: `await start(max_events=5)`."""
    clients: list[Client] = []

    async def start(plugins: Plugins | None = None, **flags: Any) -> Client:
        configuration = load({"store": store_url, **flags}, {})
        app = create_app(configuration, plugins or Plugins.installed())
        server = TestServer(app)
        client = TestClient(server)
        clients.append(client)
        await server.start_server(**body.RUNNER)
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def client(start: Start) -> Client:
    """The app with default settings."""
    return await start()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The service as a process of its own, with SQLite in `tmp_path`; not started yet."""
    with Service(tmp_path) as service:
        yield service


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn skips into failures where nothing may be skipped."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get(NOTHING_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr[-1]}"
