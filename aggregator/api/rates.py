"""How much each client may publish a second: token buckets of events, bytes and conflicts.

A bucket holds what may come at once, the burst, and fills at the rate.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from aggregator.access import Access
from aggregator.config import Settings
from aggregator.core.tokens import Scope, Token
from aggregator.errors import RateExceeded, TooLarge
from aggregator.event import Submission
from aggregator.outcome import Conflict

_MOST_CLIENTS = 4096  # whose buckets are kept; of whoever else they are full
_CONFLICTS_AT_ONCE = 1_000
_LONGEST_PAUSE = 3_600  # seconds, to tell a client to wait


@dataclass
class Bucket:
    """What a client may still take of something, in units; more is taken on credit."""

    what: str
    rate: float
    """Units a second."""
    burst: float
    """The most units at once."""
    level: float
    filled_at: float

    def fill(self, now: float) -> None:
        """Add what has come since the last time."""
        self.level = min(self.burst, self.level + self.rate * (now - self.filled_at))
        self.filled_at = now

    def check(self, size: int, now: float) -> None:
        """Raise TooLarge for what never fits, and RateExceeded for what does not fit now."""
        if size > self.burst:
            raise TooLarge(
                f"The request has {size:,} {self.what}, more than this client may ever send at "
                f"once: its burst is {self.burst:,.10g}. Send fewer at a time."
            )
        self.fill(now)
        if size > self.level:
            pause = math.ceil(min(_LONGEST_PAUSE, (size - self.level) / self.rate))
            raise RateExceeded(
                f"This client is over its rate, {self.rate:,.10g} {self.what} a second, and its "
                f"burst of {self.burst:,.10g} is used up. Try again.",
                pause,
            )


@dataclass
class ClientRates:
    """The rates that one client is held to, each if there is one."""

    events: Bucket | None
    bytes: Bucket | None
    conflicts: Bucket | None
    clock: Callable[[], float]

    def check(self, request: web.BaseRequest) -> None:
        """Refuse what cannot be taken before its body is read. Raises RateExceeded or TooLarge."""
        now = self.clock()
        for bucket, size in (
            (self.events, 1),
            (self.bytes, request.content_length or 0),
            (self.conflicts, 0),
        ):
            if bucket:
                bucket.check(size, now)

    def take(self, request: web.BaseRequest, events: int) -> None:
        """Count a request of so many events. Raises RateExceeded or TooLarge; then nothing is."""
        now = self.clock()
        sizes = (self.events, events), (self.bytes, request.content.total_bytes)
        for bucket, size in sizes:
            if bucket:
                bucket.check(size, now)
        for bucket, size in sizes:
            if bucket:
                bucket.level -= size

    def note_refused(self, request: web.BaseRequest) -> None:
        """Count a request of which no event could be read: as one event, and what has arrived."""
        now = self.clock()
        for bucket, size in (self.events, 1), (self.bytes, request.content.total_bytes):
            if bucket:
                bucket.fill(now)
                bucket.level -= size

    def note_conflicts(self, settled: Submission) -> None:
        """Count the conflicts that the client is told of; many keep it from publishing a while."""
        if self.conflicts:
            self.conflicts.fill(self.clock())
            self.conflicts.level -= sum(
                isinstance(event.verdict, Conflict) for event in settled.events
            )


class RateLimits:
    """Knows the rates of each client: those of its token, or else those of the settings.

    A client is forgotten once many others have come after it: then it may take a burst again.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._has_usual = bool(settings.rate_events or settings.rate_bytes)
        self._clients: OrderedDict[str, tuple[Token | None, ClientRates]] = OrderedDict()

    def of(self, client: str, access: Access) -> ClientRates | None:
        """The rates of the client, if it has any."""
        if access.token is None and not self._has_usual:
            return None
        token, rates = self._clients.pop(client, (None, None))
        if rates is None or token != access.token:
            rates = self._made(access)
            while len(self._clients) >= _MOST_CLIENTS:
                self._clients.popitem(last=False)
        self._clients[client] = access.token, rates
        return rates

    def _made(self, access: Access) -> ClientRates:
        own, usual = access.token, self._settings
        events, size, burst = usual.rate_events, usual.rate_bytes, usual.burst
        if own is not None:
            events = events if own.rate_events is None else own.rate_events
            size = size if own.rate_bytes is None else own.rate_bytes
            burst = burst if own.burst is None else own.burst
        may_guess = own is not None and not access.is_pinned and not access.has(Scope.READ)
        return ClientRates(
            self._bucket("events", events, max(1, events * burst)),
            self._bucket("bytes", size, size * burst),
            self._bucket("conflicts", usual.conflict_rate * may_guess, _CONFLICTS_AT_ONCE),
            self._clock,
        )

    def _bucket(self, what: str, rate: float, burst: float) -> Bucket | None:
        return Bucket(what, rate, burst, burst, self._clock()) if rate else None
