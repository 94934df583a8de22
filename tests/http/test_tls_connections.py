"""With TLS every bound of a connection holds as without, and from the first moment on."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from test_client_share import FIRST, SECOND, until
from test_connections import Connection, head_of, rest_of

from added import INSTALLED
from aggregator import tls
from aggregator.api import protocol, refusals
from aggregator.api.protocol import AppRunner
from aggregator.api.request import body
from aggregator.app import BUDGETS, CERTIFICATE, create_app
from aggregator.config import load
from aggregator.core.budget import Budget
from aggregator.core.fault_log import Seldom
from aggregator.server import Site
from aggregator.sockets import bound
from aggregator.starting import StartingServer
from certificates import Pair, make_pair

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
FOLLOW = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


class Secured:
    """The app on a port that speaks TLS."""

    def __init__(self, app: web.Application, runner: AppRunner, port: int, pair: Pair) -> None:
        self.app, self.runner, self.port = app, runner, port
        self.trusted = pair.trusted

    @property
    def places(self) -> Budget:
        return self.app[BUDGETS][-1]

    @asynccontextmanager
    async def connected(
        self, sent: bytes = b"", address: str = FIRST, **options: Any
    ) -> AsyncIterator[Connection]:
        """A connection after its handshake, on which this was sent."""
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                self.port,
                local_addr=(address, 0),
                ssl=self.trusted,
                ssl_shutdown_timeout=0.1,
                **options,
            )
        writer.write(sent)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    @asynccontextmanager
    async def plain(self, sent: bytes = b"", address: str = FIRST) -> AsyncIterator[Connection]:
        """A connection without TLS."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(address, 0)
        )
        writer.write(sent)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


Start = Callable[..., Awaitable[Secured]]


@pytest.fixture
async def start(tmp_path: Path, pair: Pair) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(**flags: Any) -> Secured:
            files = {"tls_cert": str(pair.cert), "tls_key": str(pair.key)}
            settings = {"store": f"sqlite:///{tmp_path}/a.db", **files, **flags}
            app = create_app(load(settings, {}), INSTALLED)
            runner = AppRunner(app, None, app[CERTIFICATE], shutdown_timeout=1, **body.RUNNER)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            (listening,) = bound("127.0.0.1", 0)
            await Site(runner, listening, runner.protocols(listening)).start()
            return Secured(app, runner, listening.getsockname()[1], pair)

        yield start


async def test_silent_connections_are_counted_and_keep_nobody_out(start: Start) -> None:
    service = await start(connections=40)
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(service.plain()) for _ in range(60)]
        await until(lambda: service.places.held >= 30)
        for address in (SECOND, FIRST):
            async with service.connected(GET, address) as served:
                assert b" 200 OK" in await head_of(served)
                assert service.places.held <= 40
        assert await rest_of(silent[0]) == b""
    await until(lambda: not service.places.held)


async def test_handshake_over_the_bound_is_cut_off_and_told(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_seldom", Seldom())
    service = await start(connections=4, client_share=1)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            follower = await stack.enter_async_context(service.connected(FOLLOW))
            assert b" 200 OK" in await head_of(follower)
        with pytest.raises((OSError, EOFError)):
            async with service.connected():
                pass
        assert service.places.held == 4
    await until(lambda: not service.places.held)
    assert "is refused: Too many connections are open" in caplog.text


async def test_handshake_that_does_not_end_ends_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_HANDSHAKE", 0.3)
    service = await start()
    async with AsyncExitStack() as stack:
        sent = (b"", b"\x16\x03\x01\x02\x00\x01")
        slow = [await stack.enter_async_context(service.plain(one)) for one in sent * 200]
        assert service.places.held
        for one in slow:
            assert await rest_of(one) == b""
        await until(lambda: not service.places.held)
    assert not service.runner.server.admitted  # type: ignore[union-attr]


async def test_plain_http_is_told_where_to_go(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "_seldom", Seldom())
    caplog.set_level("INFO")
    service = await start()
    async with service.plain(GET) as plain:
        told = await rest_of(plain)
    assert told.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"This port speaks TLS" in told
    async with service.plain(b"\x00\x01nonsense" * 20) as plain:
        assert b"HTTP" not in await rest_of(plain)
    await until(lambda: not service.places.held)
    assert "127.0.0.1: a TLS handshake was refused with 400: http request" in caplog.text
    async with service.connected(GET) as served:
        assert b" 200 OK" in await head_of(served)


async def test_old_version_is_refused(start: Start) -> None:
    service = await start()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    service.trusted = old
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with service.connected(GET):
            pass


async def test_idle_connection_makes_room_at_once(start: Start) -> None:
    service = await start(connections=4, client_share=1)
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(service.connected(GET)) for _ in range(4)]
        for one in idle:
            assert b" 200 OK" in await head_of(one)
            await one[0].readexactly(len(b'{"status":"alive"}'))
        async with service.connected(GET, SECOND) as served:
            assert b" 200 OK" in await head_of(served)
        assert await rest_of(idle[0]) == b""
    await until(lambda: not service.places.held)
    assert not service.runner.server.admitted  # type: ignore[union-attr]


async def test_who_never_reads_holds_little_and_is_cut_off(start: Start) -> None:
    service = await start(answer_timeout=1)
    event = (
        b'{"topic":"a","event_id":"%d","timestamp":"2026-01-31T12:00:00Z","source":"s",'
        b'"payload":{"filler":"' + b"x" * 900_000 + b'"}}'
    )
    for number in range(8):
        content = event % number
        head = b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        async with service.connected(head + b"Content-Length: %d\r\n\r\n" % len(content)) as one:
            one[1].write(content)
            assert b" 200 OK" in await head_of(one)
    ask = b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", service.port))
    reader, writer = await asyncio.open_connection(
        sock=connection, ssl=service.trusted, server_hostname="127.0.0.1", limit=1024
    )
    writer.write(ask)
    await until(lambda: b"200 OK" in bytes(reader._buffer))  # type: ignore[attr-defined]
    (served,) = service.runner.server.connections  # type: ignore[union-attr]
    largest = 0
    async with asyncio.timeout(15):
        while served.transport is not None:
            largest = max(largest, served.transport.get_write_buffer_size())
            await asyncio.sleep(0.02)
    writer.transport.abort()
    assert 32_768 <= largest < 3 * 65_536
    await until(lambda: not service.places.held)


async def test_body_that_nobody_reads_is_not_received(start: Start) -> None:
    service = await start(heartbeat=0.2)
    upload = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
    async with service.connected(upload) as eager:
        assert b" 200 OK" in await head_of(eager)
        for _ in range(100):
            eager[1].write(b"x" * 100_000)
        await asyncio.sleep(0.5)
        (served,) = service.runner.server.connections  # type: ignore[union-attr]
        below = served.transport._ssl_protocol  # type: ignore[union-attr]
        assert served.body._size + below._get_read_buffer_size() <= 200_000  # type: ignore[attr-defined]
        assert len(below._ssl_buffer) <= 32_768
    await until(lambda: not service.places.held)


async def test_stop_ends_handshakes_that_go_on(start: Start) -> None:
    service = await start()
    async with service.plain() as silent:
        await until(lambda: service.places.held == 1)
        await service.runner.wait_for_requests(0.1)
        assert await rest_of(silent) == b""
        assert not service.places.held


async def test_starting_server_speaks_it_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.starting._SHORT", 0)
    monkeypatch.setattr("aggregator.starting._LINGER", 0)
    (listening,) = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    certificate = tls.Certificate(*pair)
    with listening:
        async with StartingServer([listening], lambda: "counting", None, certificate):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=pair.trusted)
            writer.write(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
            told = await rest_of((reader, writer))
            writer.close()
        await asyncio.sleep(0.05)
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"(counting)" in told


async def test_end_of_who_is_not_read_is_noticed(start: Start) -> None:
    service = await start(heartbeat=0.2)
    upload = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
    async with service.connected(upload) as leaving:
        assert b" 200 OK" in await head_of(leaving)
        leaving[1].write(b"x" * 70_000)
        (served,) = service.runner.server.connections  # type: ignore[union-attr]
        below = served.transport._ssl_protocol  # type: ignore[union-attr]
        await until(lambda: below._app_reading_paused)  # type: ignore[attr-defined]
        connection = leaving[1].get_extra_info("socket")
        connection.shutdown(socket.SHUT_WR)
        await until(lambda: not service.places.held)


async def test_what_the_socket_has_not_taken_counts_as_unsent(start: Start) -> None:
    """Or a small answer would be handed to aiohttp, which waits without end until it is read."""
    service = await start(answer_timeout=1)
    content = (
        b'{"topic":"a","event_id":"1","timestamp":"2026-01-31T12:00:00Z","source":"s",'
        b'"payload":{"filler":"' + b"x" * 33_000 + b'"}}'
    )
    head = b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with service.connected(head + b"Content-Length: %d\r\n\r\n" % len(content)) as one:
        one[1].write(content)
        assert b" 200 OK" in await head_of(one)
    async with service.connected(address=SECOND) as (_, writer):
        writer.transport.pause_reading()
        for _ in range(600):
            writer.write(b"GET /events?limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.sleep(0.002)
        await until(lambda: not service.places.by_client.get(SECOND))
