"""A queue in memory: an `asyncio.Queue`, bounded by events."""

import asyncio

from aggregator.errors import QueueFull, SettingError
from aggregator.event import Submission
from aggregator.queue import Queue


class MemoryQueue(Queue):
    """`memory:` ends with the process, as do the requests whose submissions it holds."""

    def __init__(self, url: str, max_events: int) -> None:
        if url != "memory:":
            raise SettingError(f"queue: {url!r} should be 'memory:', which takes nothing more")
        super().__init__(url, max_events)
        self._waiting: asyncio.Queue[Submission | None] = asyncio.Queue()
        self._events = 0
        self._closed = False

    async def put(self, submission: Submission) -> None:
        """Add a submission, or raise QueueFull."""
        if self._closed:
            raise QueueFull("The service is stopping. Try again.")
        if self._events + _size(submission) > self.max_events:
            raise QueueFull("Too many events are under way (queue_events). Try again.")
        self._events += _size(submission)
        self._waiting.put_nowait(submission)

    async def take(self, most: int) -> list[Submission]:
        """The oldest submissions; an empty list once the queue is closed and drained."""
        batch: list[Submission] = []
        taken = 0
        while taken < most and (not batch or not self._waiting.empty()):
            submission = await self._waiting.get()
            if submission is None:
                self._waiting.put_nowait(None)
                break
            batch.append(submission)
            taken += _size(submission)
        return batch

    async def done(self, batch: list[Submission]) -> None:
        """Free the room of a batch that is settled."""
        self._events -= sum(_size(submission) for submission in batch)

    async def failed(self, batch: list[Submission]) -> None:
        """Nothing is redelivered: publishers are told, and send it again."""
        await self.done(batch)

    async def close(self) -> None:
        """Refuse further submissions; what waits can still be taken."""
        if not self._closed:
            self._closed = True
            self._waiting.put_nowait(None)


def _size(submission: Submission) -> int:
    return max(1, len(submission.events))
