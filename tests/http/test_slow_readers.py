"""Readers who ask for much and read nothing cost the service neither memory nor its other work."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress

from wire import connected

from events import event
from running import Service

READERS = 60
ALL = "Accept: application/x-ndjson\r\n"


def _peak(service: Service) -> int:
    with open(f"/proc/{service.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if "VmHWM" in line) // 1024


@asynccontextmanager
async def _asking(port: int) -> AsyncIterator[None]:
    """A client that has asked for much, and reads nothing."""
    async with connected("127.0.0.1", port, limit=1024) as (_, writer):
        writer.write(b"GET /events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield


async def test_readers_who_never_read_are_cut_off_in_bounded_memory(service: Service) -> None:
    url = service.start("--answer-timeout", "2")
    large = {"filler": "x" * 1_000_000}
    for number in range(12):
        assert service.publish(event(str(number), payload=large))[0] == 200
    before = _peak(service)
    port = int(url.rpartition(":")[2])

    async def until_200(path: str) -> None:
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(service.call, path))[0] != 200:
                await asyncio.sleep(0.05)

    async with AsyncExitStack() as stack:
        for _ in range(READERS):
            await stack.enter_async_context(_asking(port))
        for number in range(20):  # publishers do not wait for what readers do not read
            told = await asyncio.to_thread(service.publish, event(f"small {number}"))
            assert told[0] == 200
        await until_200("/events?limit=1000")
        # Measured: 110 MiB; 570 MiB without a bound on what waits to be read.
        assert _peak(service) - before < 256


@asynccontextmanager
async def _head_read(port: int, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """A client with a small window that has read the head, and reads nothing more by itself."""
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        async with connected(None, None, sock=connection, limit=1024) as (reader, writer):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{ALL}\r\n".encode())
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            yield reader


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What still arrives."""
    parts = []
    with suppress(ConnectionError):
        while part := await reader.read(65_536):
            parts.append(part)
    return b"".join(parts)


def _is_whole(block: bytes) -> bool:
    """Whether nothing of the message that a browser would dispatch is missing."""
    return block.endswith(b"}") or b"event: cut-off" in block


async def _until_said(service: Service, words: str, times: int = 1) -> None:
    async with asyncio.timeout(20):
        while service.said().count(words) < times:
            await asyncio.sleep(0.05)


async def _publish_much(service: Service) -> int:
    """Publish large events; return how many bytes of payload."""
    large = {"filler": "x" * 900_000}
    for number in range(30):
        told = await asyncio.to_thread(service.publish, event(f"much {number}", payload=large))
        assert told[0] == 200
    return 30 * 900_000


async def test_followers_who_never_read_cost_publishers_nothing(service: Service) -> None:
    url = service.start("--answer-timeout", "2", "--answer-bytes", "67108864")
    port = int(url.rpartition(":")[2])
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(_head_read(port, "/events/stream"))
            for _ in range(READERS)
        ]
        before = _peak(service)
        published = await _publish_much(service)
        await _until_said(service, "is cut off", READERS)
        # Measured: 22 MiB; 27 MB for each follower without a bound on what is read ahead.
        assert _peak(service) - before < 256
        for reader in readers:
            rest = await _rest(reader)
            assert len(rest) < published
            assert all(_is_whole(block) for block in rest.split(b"\n\n")[1:-1])
        await asyncio.sleep(1.5)  # longer than a connection may stay open then
        assert "Traceback" not in service.said()


async def test_export_that_is_never_read_is_cut_off_and_seen_to_be(service: Service) -> None:
    url = service.start("--answer-timeout", "1")
    await _publish_much(service)
    async with _head_read(int(url.rpartition(":")[2]), "/events") as reader:
        await _until_said(service, "was not read to its end")
        assert not (await _rest(reader)).endswith(b"0\r\n\r\n")
