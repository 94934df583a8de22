"""The head of an answer is the same, byte for byte, whether it is written in one piece or not."""

import asyncio
import re
import socket
from contextlib import suppress

import pytest
from wire import LIMIT, connected

from aggregator.api import fast_response
from conftest import Start

HEAD = b"POST /publish HTTP/1.%d\r\nHost: localhost\r\nContent-Type: application/json\r\n"
EVENT = (
    b'{"topic": "t", "event_id": "1", "timestamp": "2026-01-31T12:00:00Z", "source": "s",'
    b' "payload": {}}'
)
REQUESTS = {
    "usual": (1, b""),
    "to be closed": (1, b"Connection: close\r\n"),
    "kept alive in HTTP/1.0": (0, b"Connection: keep-alive\r\n"),
    "HTTP/1.0": (0, b""),
    "with preferences": (1, b"Prefer: return=minimal\r\n"),
    "not waiting": (1, b"Prefer: respond-async\r\n"),
    "with an origin": (1, b"Origin: https://a.example\r\n"),
}
_CHANGING = re.compile(rb"Date: [^\r]+|[0-9a-f]{32}")


async def _bytes(host: str, port: int, version: int, header: bytes) -> bytes:
    """What comes back for two requests on one connection, until the other side closes."""
    rest = b"Content-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)
    sent = (HEAD % version) + header + rest
    last = (HEAD % version) + b"Connection: close\r\n" + rest
    async with asyncio.timeout(LIMIT), connected(host, port) as (reader, writer):
        writer.write(sent + last)
        answer = await reader.read()
    return _CHANGING.sub(b"", answer)


@pytest.mark.parametrize(("version", "header"), REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("origins", ["", "*"])
async def test_answers_are_the_same_byte_for_byte(
    start: Start, monkeypatch: pytest.MonkeyPatch, version: int, header: bytes, origins: str
) -> None:
    client = await start(cors_origins=origins)
    assert client.host
    assert client.port
    await _bytes(client.host, client.port, 1, b"")
    in_one_piece = await _bytes(client.host, client.port, version, header)
    monkeypatch.setattr(fast_response, "_is_usual", lambda _: False)
    assert in_one_piece
    assert in_one_piece == await _bytes(client.host, client.port, version, header)


async def test_who_never_reads_answers_is_answered_no_further(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests come on one connection: what is not read stays bounded."""
    written: list[int] = []
    write_eof = fast_response.FastResponse.write_eof

    async def counted(self: fast_response.FastResponse, data: bytes = b"") -> None:
        await write_eof(self, data)
        written.append(self.status)

    monkeypatch.setattr(fast_response.FastResponse, "write_eof", counted)
    client = await start()
    events = b"[%b%b]" % (EVENT, b",0" * 300)
    request = (HEAD % 1) + b"Content-Length: %d\r\n\r\n%b" % (len(events), events)
    with socket.create_connection((client.host, client.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        before = -1
        while len(written) > before:  # until no more is answered
            before = len(written)
            with suppress(BlockingIOError):
                while True:
                    deaf.send(request)
            await asyncio.sleep(0.5)
    assert len(written) < 1000
