"""How many bytes of requests, or of answers, may be in flight at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from aggregator.errors import QueueFull


class ByteBudget:
    """Bytes held by requests, from the first byte read until they are settled, or by answers.

    Bodies still being read count, or a thousand slow publishers would fill the memory before
    the queue's own bound is asked.
    """

    def __init__(self, most: int, what: str) -> None:
        self.most = most
        self.what = what
        """For the message when it is used up."""
        self.held = 0

    def check_room(self, size: int = 0) -> None:
        """Raise QueueFull unless `size` bytes more may be held."""
        if self.held + size > self.most:
            raise QueueFull(f"Too many bytes of {self.what}. Try again.")

    def reserve(self) -> "Reservation":
        """A request's reservation, released at the end of a `with` block unless it is kept."""
        return Reservation(self)


class Reservation:
    """The bytes of the budget that one request holds."""

    __slots__ = ("_budget", "held", "is_kept")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0
        self.is_kept = False
        """True while somebody else will release it, whatever becomes of the request."""

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if not self.is_kept:
            self.release()

    def take(self, size: int) -> None:
        """Hold `size` bytes more, or raise QueueFull."""
        self._budget.check_room(size)
        self.hold(size)

    def hold(self, size: int) -> None:
        """Hold `size` bytes more, whether or not they fit."""
        self._budget.held += size
        self.held += size

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Hold `size` bytes more for a while, or raise QueueFull.

        Never more than there are beside its own: a request that is alone is not refused.
        """
        size = min(size, self._budget.most - self.held)
        self.take(size)
        try:
            yield
        finally:
            self._budget.held -= size
            self.held -= size

    def release(self) -> None:
        """Give back what is held."""
        self._budget.held -= self.held
        self.held = 0
