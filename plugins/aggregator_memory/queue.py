"""A queue in memory, bounded by events."""

import asyncio
from collections import deque

from aggregator.errors import QueueFull, SettingError
from aggregator.event import Submission
from aggregator.queue import Queue


class MemoryQueue(Queue):
    """`memory:` ends with the process, as do the requests whose submissions it holds."""

    def __init__(self, url: str, max_events: int) -> None:
        if url != "memory:":
            raise SettingError(f"queue: {url!r} should be 'memory:', which takes nothing more")
        super().__init__(url, max_events)
        self._waiting: deque[Submission] = deque()
        self._events = 0
        self._closed = False
        self._has_news = asyncio.Event()
        """Set when something is put, and by the end."""

    async def put(self, submission: Submission) -> None:
        """Add a submission, or raise QueueFull."""
        if self._closed:
            raise QueueFull("The service is stopping. Try again.")
        events = self._events + _size(submission)
        if events > self.max_events:
            raise QueueFull("Too many events are under way (queue_events). Try again.")
        self._events = events
        self._waiting.append(submission)
        self._has_news.set()

    async def take(self, most: int) -> list[Submission]:
        """The oldest submissions; an empty list once the queue is closed and drained."""
        while not (self._waiting or self._closed):
            self._has_news.clear()
            await self._has_news.wait()
        batch: list[Submission] = []
        taken = 0
        while self._waiting and taken < most:
            batch.append(self._waiting.popleft())
            taken += _size(batch[-1])
        return batch

    async def done(self, batch: list[Submission]) -> None:
        """Free the room of a batch that is settled."""
        self._events -= sum(map(_size, batch))

    async def failed(self, batch: list[Submission]) -> None:
        """Nothing is redelivered: publishers are told, and send it again."""
        await self.done(batch)

    async def close(self) -> None:
        """Refuse further submissions; what waits can still be taken."""
        self._closed = True
        self._has_news.set()


def _size(submission: Submission) -> int:
    return len(submission.events) or 1
