"""The contract of a store: where keys, events and counters live.

A store speaks the words of this page and no others, so a stage is written once and runs on every
store. Derive from `Store` and `StoreTransaction`, register the store's class in the entry-point
group `aggregator.stores` under the scheme of its URLs, and run `aggregator.testing.StoreContract`.

Times are microseconds since 1970 (UTC). Keys are 16 bytes, digests 17.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec

from aggregator.event import Event


class Holder(msgspec.Struct, frozen=True):
    """The stored event that holds a key."""

    seq: int
    digest: bytes
    received_at: int


class Content(msgspec.Struct, frozen=True):
    """What two events of one key are compared by; `payload` is None where it is kept no more."""

    source: str
    payload: bytes | None


class Sighting(msgspec.Struct, frozen=True):
    """An event that came again under the key of the event `seq`."""

    seq: int
    source: str
    seen_at: int
    is_conflict: bool


class Counters(msgspec.Struct, frozen=True):
    """How many events ended with each outcome, and on how many topics some are stored."""

    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    invalid: int = 0
    filtered: int = 0
    refused: int = 0
    topics: int = 0

    @property
    def received(self) -> int:
        """All events that have an outcome."""
        answered = self.stored + self.duplicate + self.conflict
        return answered + self.invalid + self.filtered + self.refused


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as it is read back; key and digest are those that were stored with it.

    A store hands over what it finds: whether that is damaged is judged by its digest elsewhere.
    """

    seq: int
    received_at: int
    topic: str
    event_id: str
    timestamp: str | None
    source: str
    payload: bytes | None
    key: bytes
    digest: bytes


class Query(msgspec.Struct, frozen=True):
    """Which events to read. `after` is the seq of the last one seen, in the order asked for."""

    topic: str | None = None
    source: str | None = None
    since: int | None = None  # time of the event, inclusive
    until: int | None = None  # time of the event, exclusive
    after: int | None = None
    limit: int = 100
    descending: bool = False


PAGE_BYTES = 8_388_608
"""Bytes of payloads after which a page ends, however many events were asked for."""


class Page(msgspec.Struct, frozen=True):
    """Some events that match, in order; `next` is the `after` to go on with, None at the end.

    A page may hold fewer events than asked for, even none, and still have a `next`: that is how
    a store keeps the work of one page bounded when few events match.
    """

    events: list[StoredEvent]
    next: int | None


class StoreTransaction(ABC):
    """What happens to a store as one. `Store.transaction` commits it or rolls it back."""

    @abstractmethod
    async def claim(self, keys: Sequence[bytes]) -> list[Holder | None]:
        """For each key the event that holds it, or None if it is new; rival claims wait.

        Events appended earlier in this transaction hold their keys already. A claim leaves
        nothing behind: a key that no event is appended under stays new.
        """

    @abstractmethod
    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of these events, in order, up to and with the one that reaches PAGE_BYTES.

        At least one, so that whoever wants more asks again for the rest.
        """

    @abstractmethod
    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store the events with their keys; return the seq of each, ascending.

        A seq is larger than every one given before, and never given again. Raises KeyHeld, and
        stores none of them, if one's key is held or stands twice among them.
        """

    @abstractmethod
    async def record(self, sightings: Sequence[Sighting]) -> None:
        """Keep how often, when last and from which source events came again."""

    @abstractmethod
    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
        """Add to the counters and return their new values.

        `topics` of what is added is 0: the store knows which topics are new to it. `by_topic`
        names only topics on which events are stored.
        """

    @abstractmethod
    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """A part that is undone alone when the block raises; one at a time."""


class Store(ABC):
    """Keys, events and counters behind a URL.

    Any call may raise StoreError. It stops the service until `reopen` succeeds, so what a store can
    mend by trying again, a deadlock say, it tries again itself. KeyHeld is no failure of the store.
    """

    def __init__(self, url: str) -> None:
        """Raises SettingError if the URL is not one of this store's. Opens nothing."""
        self.url = url

    @abstractmethod
    async def open(self, recipe: str) -> None:
        """Make ready. What could be read afterwards is durable, whatever happened before.

        Raises SettingError for what an operator must change: another process holds the store,
        or its keys were made by another recipe (a new store keeps this one).
        """

    @abstractmethod
    async def reopen(self) -> None:
        """Prove the store again after a StoreError: durable as after `open`, or StoreError."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything; harmless if nothing is open."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[StoreTransaction]:
        """Commits durably when the block ends, rolls back and raises when it raises.

        No call in it is cancelled. A second transaction, in whatever process, waits until the first
        has ended, at its first claim at the latest. When seq n can be read, every smaller seq
        that will ever exist can be read.
        """

    @abstractmethod
    async def events(self, query: Query) -> Page:
        """One page of committed events, in the order of seq.

        Its work is bounded, however few events match, and its size by PAGE_BYTES: a page ends
        with the event that reaches it.
        """

    @abstractmethod
    async def find(self, key: bytes) -> StoredEvent | None:
        """The committed event that holds the key."""

    @abstractmethod
    async def counters(self) -> Counters:
        """The committed counters."""

    @abstractmethod
    async def topics(self, limit: int) -> list[str]:
        """Up to `limit` names of topics on which events are stored, in order."""

    @abstractmethod
    def about(self) -> str:
        """For the operator, in a few words: what it is, its version, where the data is."""
