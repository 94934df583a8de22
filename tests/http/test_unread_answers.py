"""Who sends request after request and reads no answer is soon answered no further."""

import asyncio
import socket
from contextlib import suppress

import pytest
from aiohttp import web

from conftest import Start

HEAD = b"POST /publish HTTP/1.1\r\nHost: tests\r\nContent-Type: application/json\r\n"
EVENT = (
    b'{"topic": "t", "event_id": "1", "timestamp": "2026-01-31T12:00:00Z", "source": "s",'
    b' "payload": {}}'
)


async def test_who_never_reads_answers_is_answered_no_further(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests come on one connection: what is not read stays bounded."""
    written: list[int] = []
    write_eof = web.Response.write_eof

    async def counted(self: web.Response, data: bytes = b"") -> None:
        await write_eof(self, data)
        written.append(self.status)

    monkeypatch.setattr(web.Response, "write_eof", counted)
    client = await start()
    events = b"[%b%b]" % (EVENT, b",0" * 300)
    request = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(events), events)
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
