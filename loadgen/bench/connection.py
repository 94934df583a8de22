"""One connection of a publisher, just enough of HTTP."""

import asyncio
from collections.abc import Callable

Answered = Callable[["Connection", int, float], None]
"""The connection, the status, and the moment when the request was due."""


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, on_answer: Answered, on_loss: Callable[[], None]) -> None:
        self._on_answer, self._on_loss = on_answer, on_loss
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and is_whole(head, body):
            self._received = b""
            self._on_answer(self, int(head[9:12]), self._due)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's name
        self._on_loss()


def is_whole(head: bytes, body: bytes) -> bool:
    """Whether an answer has arrived to its end; chunks have no trailers here."""
    head = head.lower()
    _, has_length, rest = head.partition(b"\r\ncontent-length:")
    if has_length:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    return b"\r\ntransfer-encoding: chunked" in head and body.endswith(b"0\r\n\r\n")
