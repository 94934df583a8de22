"""Fixtures: the real app in this process on either store, and the real service in its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from aggregator.api.request import body
from aggregator.app import create_app
from aggregator.config import load
from aggregator.plugins import Plugins
from events import event
from killed import COMMITS, Killed
from running import Service

NOTHING_SKIPPED = "NOTHING_MAY_BE_SKIPPED"
"""Set in the environment where everything is installed that tests need."""

Client = TestClient[Any, Any]
Start = Callable[..., Awaitable[Client]]


def pytest_configure() -> None:
    """Heed Ctrl-C, and let what is started heed it, also in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def strace() -> list[str]:
    """The beginning of a command that is traced; skips where nobody may trace."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("this machine lets nobody trace a process")
    return ["strace"]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """A service that was killed after some commits."""
    folder = tmp_path_factory.mktemp("original")
    killed = Killed(folder, [])
    with Service(folder) as service:
        service.start()
        for number in range(1, COMMITS + 1):
            assert service.publish(event(str(number)))[0] == 200
            killed.ends.append(killed.log.stat().st_size)
        service.kill()
    return killed


@pytest.fixture
def killed(original: Killed, tmp_path: Path) -> Killed:
    """A copy of it for each test."""
    shutil.copytree(original.folder / "data", tmp_path / "data")
    return Killed(tmp_path, original.ends)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn skips into failures where nothing may be skipped."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get(NOTHING_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr[-1]}"
