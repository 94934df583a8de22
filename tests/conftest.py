"""Fixtures: the real app in this process on either store, and the real service in its own."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web_app
from aiohttp.test_utils import TestClient, TestServer

import lanes
import left_open
from added import INSTALLED
from aggregator.api.hosts import Hosts
from aggregator.api.protocol import AppRunner
from aggregator.api.request import body
from aggregator.app import create_app
from aggregator.config import listed, load
from aggregator.plugins import Plugins
from events import event
from killed import COMMITS, Killed
from running import Service

NOTHING_SKIPPED = "NOTHING_MAY_BE_SKIPPED"
"""Set in the environment where everything is installed that tests need."""

Client = TestClient[Any, Any]


class AppServer(TestServer):
    """The app behind the protocol that the service has."""

    hosts: Hosts | None = None

    async def _make_runner(self, **settings: Any) -> AppRunner:
        return AppRunner(self.app, self.hosts, **settings)


Start = Callable[..., Awaitable[Client]]


def pytest_configure(config: pytest.Config) -> None:
    """Watch what is left open; heed Ctrl-C, and let what is started heed it, in any shell."""
    config.pluginmanager.register(left_open)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test into its lane."""
    lanes.mark(items, Path(__file__).parent)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked `every_store` once on each kind of store."""
    if metafunc.definition.get_closest_marker("every_store"):
        metafunc.parametrize("store_url", ["sqlite", "memory"], indirect=True)


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store: of SQLite, unless the test is marked `every_store`."""
    if getattr(request, "param", "sqlite") == "memory":
        return "memory:"
    return f"sqlite:///{tmp_path}/aggregator.db"


@asynccontextmanager
async def starting(store_url: str) -> AsyncIterator[Start]:
    """Starts apps on the store; all are closed in the end."""
    async with AsyncExitStack() as stack:

        async def start(plugins: Plugins | None = None, **flags: Any) -> Client:
            configuration = load({"store": store_url, **flags}, {})
            server = AppServer(create_app(configuration, plugins or INSTALLED))
            if "hosts" in flags:
                server.hosts = Hosts(listed(flags["hosts"]))
            client = TestClient(server)
            stack.push_async_callback(client.close)
            await server.start_server(**body.RUNNER)
            return client

        yield start


@pytest.fixture
async def start(store_url: str) -> AsyncIterator[Start]:
    """Starts the app with settings of the test's own: `await start(max_events=5)`.

    It looks at `Host` if `hosts` is given.
    """
    async with starting(store_url) as start:
        yield start


@pytest.fixture
async def client(start: Start) -> Client:
    """The app with default settings."""
    return await start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """One app for all the cases of a file that are marked `in_shared_app`.

    It is for many cases of one kind: what one of them leaves behind, the others meet.
    """
    folder = tmp_path_factory.mktemp("shared")
    async with starting(f"sqlite:///{folder}/aggregator.db") as start:
        client = await start()
        yield client
        async with client.get("/stats") as response:
            assert (await response.json())["queue_size_current"] == 0


in_shared_app = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The service as a process of its own, with SQLite in `tmp_path`; not started yet."""
    with Service(tmp_path) as service:
        yield service


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket as a socket unit has it: it is there all the time, and nobody else has its port."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=1024)) as listening:
        yield listening


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


def pytest_runtest_teardown() -> None:
    """Let go of the apps of the test: aiohttp's cache would keep a thousand, of 5 MB each."""
    web_app._cached_build_middleware.cache_clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn skips into failures where nothing may be skipped."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get(NOTHING_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr[-1]}"
