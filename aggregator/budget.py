"""How many bytes of requests, or of answers, may be under way at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from aggregator.errors import QueueFull


class Budget:
    """Bytes held by requests, from the first byte read until they are settled, or by answers.

    Bodies still being read count, or a thousand slow publishers would fill the memory before
    the queue's own bound is asked.
    """

    def __init__(self, most: int, what: str) -> None:
        self.most = most
        self.what = what
        """For the message when it is used up."""
        self.held = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A request's share, given back at the end of the block unless it is kept."""
        share = Share(self)
        try:
            yield share
        finally:
            if not share.is_kept:
                share.release()


class Share:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0
        self.is_kept = False
        """True while somebody else will release it, whatever becomes of the request."""

    def take(self, size: int) -> None:
        """Hold `size` bytes more, or raise QueueFull."""
        if self._budget.held + size > self._budget.most:
            raise QueueFull(f"Too many bytes of {self._budget.what}. Try again.")
        self.hold(size)

    def hold(self, size: int) -> None:
        """Hold `size` bytes more, whether or not they fit."""
        self._budget.held += size
        self.held += size

    def release(self) -> None:
        """Give back what is held."""
        self._budget.held -= self.held
        self.held = 0
