"""HTTP by hand: for requests that no client library sends."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

LIMIT = 30.0
PUBLISH = b"POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
AS_JSON = PUBLISH + b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Answer(NamedTuple):
    """What came back; empty if the connection was closed without an answer."""

    status: int
    content_type: str
    body: bytes

    @property
    def told(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def with_length(length: int) -> bytes:
    """The last line of a head, for a body of that length."""
    return b"Content-Length: %d\r\n\r\n" % length


def chunked(parts: Iterable[bytes]) -> Iterable[bytes]:
    """The parts as the chunks of a body."""
    for part in parts:
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


@asynccontextmanager
async def connected(
    host: str | None, port: int | None, **settings: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, which ends with the block, whatever happens in it."""
    reader, writer = await asyncio.open_connection(host, port, **settings)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(
    host: str, port: int, parts: Iterable[bytes], *, is_half_closed: bool = False
) -> Answer:
    """Send the parts, however early the answer comes, and read until the other side closes."""
    async with asyncio.timeout(LIMIT), connected(host, port) as (reader, writer):
        sending = asyncio.create_task(_send(writer, parts, is_half_closed))
        try:
            answer = await received(reader)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    return answer


async def give_up(host: str, port: int, parts: Iterable[bytes]) -> None:
    """Send the parts, and close the connection without waiting for anything."""
    async with connected(host, port) as (_, writer):
        await _send(writer, parts, is_half_closed=False)
        writer.close()
        await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, parts: Iterable[bytes], is_half_closed: bool) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
    if is_half_closed:
        writer.write_eof()


async def received(reader: asyncio.StreamReader) -> Answer:
    """The answer that comes."""
    return _answer(await _receive(reader))


async def _receive(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    try:
        return head + await reader.readexactly(int(_header(head, b"content-length") or 0))
    except asyncio.IncompleteReadError as error:
        return head + error.partial


def _answer(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head else 0
    return Answer(status, _header(head, b"content-type").decode(), body)


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        label, _, value = line.partition(b":")
        if label.lower() == name:
            return value.strip()
    return b""
