"""Connections are bounded, in number and in what each may hold, also before there is a request."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from test_client_share import FIRST, SECOND, until, until_all_is_back

from aggregator.api import protocol
from aggregator.app import BUDGETS
from aggregator.core.budget import Budget
from conftest import Client, Start
from events import event

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
FOLLOW = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(
    client: Client, sent: bytes = b"", address: str = FIRST
) -> AsyncIterator[Connection]:
    """A connection from that address, on which this was sent."""
    reader, writer = await asyncio.open_connection(
        client.host, client.port, local_addr=(address, 0)
    )
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def head_of(connection: Connection) -> bytes:
    async with asyncio.timeout(10):
        return await connection[0].readuntil(b"\r\n\r\n")


async def rest_of(connection: Connection) -> bytes:
    """What comes until the other side closes."""
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            return await connection[0].read()
    return b""


def connections(client: Client) -> Budget:
    return client.app[BUDGETS][-1]


@asynccontextmanager
async def followers(client: Client, count: int, address: str = FIRST) -> AsyncIterator[None]:
    """So many connections that are busy."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            opened = await stack.enter_async_context(connected(client, FOLLOW, address))
            assert b" 200 OK" in await head_of(opened)
        yield


async def test_connection_over_the_bound_is_answered_503_at_once(start: Start) -> None:
    client = await start(connections=4, client_share=1)
    async with followers(client, 4):
        async with connected(client) as refused:
            told = await rest_of(refused)
        assert told.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nRetry-After: 1\r\n" in told
        assert b"Too many connections are open (connections). Try again." in told
        assert connections(client).held == 4
    await until_all_is_back(client)
    async with connected(client, GET) as served:
        assert b" 200 OK" in await head_of(served)


async def test_connections_of_one_client_leave_room_for_others(start: Start) -> None:
    client = await start(connections=8, streams=100)
    async with followers(client, 6):
        async with connected(client) as refused:
            assert b"(connections), and 127.0.0.1 holds its share" in await rest_of(refused)
        async with connected(client, GET, SECOND) as served:
            assert b" 200 OK" in await head_of(served)
            assert connections(client).by_client == {FIRST: 6, SECOND: 1}
    await until_all_is_back(client)


async def test_idle_connection_of_who_holds_most_makes_room(start: Start) -> None:
    client = await start(connections=4, client_share=1)
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connected(client, GET)) for _ in range(3)]
        for one in idle:
            assert b" 200 OK" in await head_of(one)
            await one[0].readexactly(len(b'{"status":"alive"}'))
        others = await stack.enter_async_context(connected(client, GET, SECOND))
        assert b" 200 OK" in await head_of(others)
        await stack.enter_async_context(followers(client, 1, "127.0.0.3"))
        assert await rest_of(idle[0]) == b""
        assert connections(client).by_client == {FIRST: 2, SECOND: 1, "127.0.0.3": 1}
        for one in idle[1:]:
            one[1].write(GET)
            assert b" 200 OK" in await head_of(one)
    await until_all_is_back(client)


async def test_client_that_holds_its_share_makes_room_for_itself(start: Start) -> None:
    client = await start(connections=8)
    async with followers(client, 5, SECOND), connected(client, GET) as served:
        assert b" 200 OK" in await head_of(served)
        await served[0].readexactly(len(b'{"status":"alive"}'))
        async with followers(client, 1), connected(client, GET) as newest:
            assert b" 200 OK" in await head_of(newest)
        assert await rest_of(served) == b""
    await until_all_is_back(client)


async def test_proxy_that_is_listed_may_have_all_connections(start: Start) -> None:
    client = await start(connections=4, proxies=FIRST)
    async with followers(client, 3), connected(client, GET) as served:
        assert b" 200 OK" in await head_of(served)
    await until_all_is_back(client)


async def test_whoever_uses_the_socket_of_a_file_is_one_client(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # these paths must be short
    client = await start(connections=4)
    runner = client.server.runner  # type: ignore[union-attr]
    assert runner
    await web.UnixSite(runner, "s").start()
    async with AsyncExitStack() as stack:
        opened = [await asyncio.open_unix_connection("s") for _ in range(3)]
        for one in opened:
            stack.callback(one[1].transport.abort)
            one[1].write(FOLLOW)
            assert b" 200 OK" in await head_of(one)
        assert connections(client).by_client == {"unix": 3}
        assert client.app[BUDGETS][5].by_client == {"unix": 3}
        refused = await asyncio.open_unix_connection("s")
        stack.callback(refused[1].transport.abort)
        assert b"and unix holds its share" in await rest_of(refused)
    await until_all_is_back(client)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_HEAD_TIMEOUT", 0.3)


@pytest.mark.usefixtures("_impatient")
async def test_head_that_does_not_arrive_ends_its_connection(client: Client) -> None:
    async with connected(client, GET[:20]) as slow, connected(client) as silent:
        told = await rest_of(slow)
        assert told.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"did not arrive within 0.3 s" in told
        assert await rest_of(silent) == b""
    async with connected(client, GET) as served:
        assert b" 200 OK" in await head_of(served)
        await served[0].readexactly(len(b'{"status":"alive"}'))
        await asyncio.sleep(0.6)  # who is silent between two requests is left alone
        served[1].write(GET)
        assert b" 200 OK" in await head_of(served)
        await served[0].readexactly(len(b'{"status":"alive"}'))
        answer = asyncio.create_task(head_of(served))
        for byte in GET[:-1]:
            served[1].write(bytes([byte]))
            await asyncio.sleep(0.02)
            if answer.done():
                break
        assert b" 408 " in await answer
    await until_all_is_back(client)


async def test_head_is_bounded_as_a_whole(client: Client) -> None:
    async with connected(client, GET[:-2]) as endless:
        answer = asyncio.create_task(head_of(endless))
        for _ in range(30):
            endless[1].write(b"X-Long: " + b"x" * 5_000 + b"\r\n")
            await asyncio.sleep(0.001)
            if answer.done():
                break
        assert b" 400 Bad Request" in await answer
    async with connected(client, GET[:-2] + b"X-Long: 12345\r\n" * 100 + b"\r\n") as served:
        assert b" 200 OK" in await head_of(served)
    long = 3 * (b"X-Long: " + b"x" * 6_000 + b"\r\n")
    async with connected(client, GET[:-2] + long + b"\r\n") as refused:
        told = await rest_of(refused)
    assert b" 400 Bad Request\r\n" in told
    assert b"The head of this request has more than the 16,384 bytes that are read." in told
    await until_all_is_back(client)


async def test_requests_sent_in_advance_are_answered_in_order(client: Client) -> None:
    paths = [f"/missing/{number}" for number in range(50)]
    sent = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths)
    async with connected(client, sent.encode()) as eager:
        for path in paths:
            head = await head_of(eager)
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            assert path.encode() in await eager[0].readexactly(size)


async def test_bodies_sent_in_advance_are_all_answered(client: Client) -> None:
    """Also those that came while reading was paused: what is left of them is parsed later."""
    bodies = [
        json.dumps(event(str(number), payload={"a": "x" * (number % 7 * 2_000)})).encode()
        for number in range(100)
    ]
    sent = b"".join(
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies
    )
    async with connected(client, sent) as (reader, _), asyncio.timeout(20):
        for _ in bodies:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert b'"stored"' in await reader.readuntil(b"}]}")


async def test_next_to_nothing_is_read_ahead_of_an_answer_that_takes_long(start: Start) -> None:
    client = await start(heartbeat=0.2)  # which finds out that somebody has left
    large = (
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n"
        + b" " * 50_000
    )
    async with connected(client, FOLLOW) as eager:
        assert b" 200 OK" in await head_of(eager)
        for _ in range(100):
            eager[1].write(large)
        await asyncio.sleep(0.5)
        (served,) = client.server.handler.connections  # type: ignore[union-attr]
        kept = [getattr(body, "_size", 0) for _, body in served._messages]
        assert sum(kept) <= 2 * 50_000
    await until_all_is_back(client)


async def test_body_that_nobody_reads_is_not_received(start: Start) -> None:
    client = await start(heartbeat=0.2)
    upload = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
    async with connected(client, upload) as eager:
        assert b" 200 OK" in await head_of(eager)
        for _ in range(100):
            eager[1].write(b"x" * 100_000)
        await asyncio.sleep(0.5)
        (served,) = client.server.handler.connections  # type: ignore[union-attr]
        assert served.body._size <= 200_000
    await until_all_is_back(client)


async def test_connections_that_come_and_go_leave_nothing_behind(client: Client) -> None:
    for sent in (b"", GET, GET[:5], b"\x16\x03\x01", FOLLOW):
        async with connected(client, sent):
            await asyncio.sleep(0.01)
    await until(lambda: not connections(client).held)
    await until_all_is_back(client)


async def test_answers_that_nobody_reads_are_not_gathered(start: Start) -> None:
    """Not even those that are small: a connection may ask for any number of them."""
    client = await start(answer_timeout=1)
    async with client.post("/publish", json=event(payload={"x": "x" * 33_000})) as response:
        assert response.status == 200
    ask = b"GET /events?limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    largest = 0
    async with connected(client, address=SECOND) as (_, writer):
        await until(lambda: len(client.server.handler.connections) == 2)  # type: ignore[union-attr]
        served = client.server.handler.connections[-1]  # type: ignore[union-attr]
        writer.transport.pause_reading()
        for _ in range(600):
            writer.write(ask)
            await asyncio.sleep(0.002)
            if served.transport:
                largest = max(largest, served.transport.get_write_buffer_size())
        await until(lambda: not connections(client).by_client.get(SECOND))
    assert 0 < largest < 3 * 65_536
