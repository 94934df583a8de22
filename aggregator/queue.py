"""The contract of a queue: what stands between the request and the worker.

Derive from `Queue`, register the class in the entry-point group `aggregator.queues` under the
scheme of its URLs, and run `aggregator.testing.QueueContract` on it.
"""

from abc import ABC, abstractmethod

from aggregator.event import Submission


class Queue(ABC):
    """Submissions on their way to the one worker, first in, first out, each given once.

    `Submission` is plain data: msgspec writes and reads it. An error of `take`, `done` or `failed`
    ends the process.
    """

    def __init__(self, url: str, max_events: int) -> None:
        """Raises SettingError if the URL is not one of this queue's. Opens nothing."""
        self.url = url
        self.max_events = max_events

    async def open(self) -> None:  # noqa: B027, a queue in memory has nothing to open
        """Make ready."""

    @abstractmethod
    async def put(self, submission: Submission) -> None:
        """Hand over a submission, or raise QueueFull, or Unavailable for any other reason.

        Full means that what was put and is not done yet would come to more than `max_events`
        events; a submission without events counts as one.
        """

    @abstractmethod
    async def take(self, most: int) -> list[Submission]:
        """What waits, oldest first: at least one, and no further once `most` events are taken.

        Waits for the first. Once the queue is closed it gives what is left, then empty lists.
        """

    @abstractmethod
    async def done(self, batch: list[Submission]) -> None:
        """The batch is committed; forget it."""

    @abstractmethod
    async def failed(self, batch: list[Submission]) -> None:
        """The batch's fate is unknown, and whoever waited for it was told so; its room is free."""

    @abstractmethod
    async def close(self) -> None:
        """Take nothing more: `put` raises QueueFull from now on."""
