"""How many submissions share a commit."""

import asyncio
import json
from typing import Any, ClassVar

import pytest

from added import INSTALLED, with_plugin
from aggregator.event import Submission
from aggregator.plugins import QUEUES, Plugins
from aggregator_memory.queue import MemoryQueue
from conftest import Start
from events import event

_PUBLISHERS = 8
_REQUESTS = 200

COUNTING = Plugins([*INSTALLED.found, with_plugin(QUEUES, "counting", f"{__name__}:CountingQueue")])


class CountingQueue(MemoryQueue):
    """`counting:` notes how many submissions each batch has."""

    batches: ClassVar[list[int]] = []

    def __init__(self, url: str, max_events: int) -> None:
        super().__init__("memory:", max_events)

    async def take(self, most: int) -> list[Submission]:
        taken = await super().take(most)
        self.batches.append(len(taken))
        return taken


class Publisher(asyncio.Protocol):
    """Sends its next event as soon as the one before is answered, as a client elsewhere does."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = 0
        self.is_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        assert b'"stored"' in data
        if self.sent < _REQUESTS:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_done.set_result(None)

    def _send(self) -> None:
        self.sent += 1
        body = json.dumps(event(f"{self.number}-{self.sent}")).encode()
        head = f"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def test_those_who_are_answered_together_share_the_next_commit_with_who_waits(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    monkeypatch.setattr(CountingQueue, "batches", batches)
    client = await start(COUNTING, queue="counting:")
    loop = asyncio.get_running_loop()
    publishers = [Publisher(number) for number in range(_PUBLISHERS)]
    for publisher in publishers:
        await loop.create_connection(
            lambda publisher=publisher: publisher, client.server.host, client.server.port
        )
    await asyncio.gather(*(publisher.is_done for publisher in publishers))
    assert sum(batches) == _PUBLISHERS * _REQUESTS
    # In two halves that commit in turns there would be twice as many batches.
    assert len(batches) < 1.5 * _REQUESTS
