"""How much may be held at once of what all clients share: by all together, and by each of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from types import TracebackType

from aggregator.errors import QueueFull


class Budget:
    """Something of which all clients together may hold `most`: bytes, events, connections.

    The last quarter of it is kept for clients that hold less than `client_share` of all, so that
    none can take what all share. A share of 1 keeps nothing for anybody.
    """

    def __init__(self, most: int, what: str, client_share: float = 1.0) -> None:
        self.most = most
        self.what = what
        """What there are too many of when it is used up, and by which setting; for messages."""
        self.held = 0
        self.by_client: dict[str, int] = {}
        """What each client holds, of those who hold something."""
        self._open_to_all = most - most // 4
        self._share = most * client_share if client_share < 1 else inf
        self.most_of_one = max(self._open_to_all, int(most * client_share))
        """What a client can count on while it is alone."""

    def check_room(self, client: str, size: int = 0) -> None:
        """Raise QueueFull unless the client may hold so much more."""
        held = self.held + size
        if held <= self._open_to_all:
            return
        if held > self.most:
            raise QueueFull(f"Too many {self.what}. Try again.")
        if self.by_client.get(client, 0) >= self._share:
            raise QueueFull(
                f"Too many {self.what}, and {client} holds its share of them (client_share). "
                "Try again."
            )

    def crowded_by(self, client: str) -> str:
        """Who has to give something back for the client: itself, once its share is used up."""
        if self.by_client.get(client, 0) >= self._share:
            return client
        return max(self.by_client, key=self.by_client.__getitem__, default=client)

    def reserve(self, client: str) -> "Reservation":
        """A reservation for the client, released at the end of a `with` block unless it is kept."""
        return Reservation(self, client)

    def add(self, client: str, size: int) -> None:
        """The client holds so much more, or less where `size` is negative."""
        self.held += size
        if holds := self.by_client.get(client, 0) + size:
            self.by_client[client] = holds
        else:  # clients come and go, and their names would stay
            self.by_client.pop(client, None)


class Reservation:
    """What a client holds of a budget for one purpose, mostly for one request.

    Bytes are held from the first one read on: bodies still being read count, or a thousand slow
    publishers would fill the memory before the queue's own bound is asked.
    """

    __slots__ = ("_budget", "client", "held", "is_kept")

    def __init__(self, budget: Budget, client: str) -> None:
        self._budget = budget
        self.client = client
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

    def take(self, size: int) -> int:
        """Hold `size` more, or as much of it as one client may hold; return how much.

        So what is alone is not refused, whatever it turns out to need. Raises QueueFull.
        """
        size = max(0, min(size, self._budget.most_of_one - self.held))
        self._budget.check_room(self.client, size)
        self.hold(size)
        return size

    def hold(self, size: int) -> None:
        """Hold `size` more, whether or not there is room."""
        self._budget.add(self.client, size)
        self.held += size

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """`take` for a while. Raises QueueFull."""
        taken = self.take(size)
        try:
            yield
        finally:
            self.hold(-taken)

    def release(self) -> None:
        """Give back what is held."""
        if self.held:
            self._budget.add(self.client, -self.held)
            self.held = 0
