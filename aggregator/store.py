"""The contract of a store: where keys, events and counters live.

A store speaks the words of this page and no others, so a stage is written once and runs on every
store. Derive from `Store` and `StoreTransaction`: that is what every store must do. What some can
do beyond it are mixins further down, `KeepsHistory`, `KeepsQuarantine`, `IndexesFields`,
`OpensReadOnly`, `BacksUp` and `ChecksItself`: a call of the API or a setting that needs one is
there only where the store has it. Register the store's class in the entry-point group
`aggregator.stores` under the scheme of its URLs, and run `aggregator.testing.StoreContract`.

Times are microseconds since 1970 (UTC). Keys are 16 bytes, digests 17.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from aggregator.core import json_pointer, json_values
from aggregator.core.identity import PayloadKind
from aggregator.core.store_guard import guard
from aggregator.event import Event


class KeyOwner(msgspec.Struct, frozen=True):
    """The stored event that holds a key."""

    seq: int
    digest: bytes
    received_at: int


class Content(msgspec.Struct, frozen=True):
    """What two events of one key are compared by; `payload` is None where it is kept no more."""

    source: str
    payload: bytes | None
    payload_kind: PayloadKind = PayloadKind.JSON
    is_damaged: bool = False  # as in StoredEvent


class Counters(msgspec.Struct, frozen=True):
    """How many events ended with each outcome, and what the store itself counts."""

    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    invalid: int = 0
    filtered: int = 0
    refused: int = 0
    failed_async: int = 0  # failed after their publisher was answered; of any outcome, or of none
    topics: int = 0  # on which events are stored
    quarantined: int = 0  # in quarantine now
    evicted: int = 0  # gone from quarantine because it was full or they were too old

    @property
    def received(self) -> int:
        """All events that have an outcome."""
        answered = self.stored + self.duplicate + self.conflict
        return answered + self.invalid + self.filtered + self.refused


OUTCOMES = ("stored", "duplicate", "conflict", "invalid", "filtered", "refused")
"""The counters that are of outcomes: their sum is `received`."""


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as it is read back; key and digest are those that were stored with it.

    A store hands over what it finds, also where it is damaged.
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
    payload_kind: PayloadKind = PayloadKind.JSON
    attributes: bytes = b""
    is_damaged: bool = False
    """Whether the store sees that a part of it is not as it was written: by a checksum of its own.

    The digest covers source and payload alone, and elsewhere it is compared in any case.
    """


class FieldIs(msgspec.Struct, frozen=True):
    """What a place in the payload must hold: `value` is encoded as `json_values.scalar` does it."""

    pointer: str
    value: bytes

    def is_in(self, payload: bytes | None, form: PayloadKind) -> bool:
        """Whether that payload has the value there. One that is damaged or gone has nothing."""
        return value_at(self.pointer, payload, form) == self.value

    @property
    def may_be_in(self) -> Callable[[bytes], bool]:
        """A quick test of bytes: False only where no payload within them has the value there."""
        return json_values.may_have(json_pointer.parse(self.pointer), self.value)


def value_at(where: str, payload: bytes | None, form: PayloadKind) -> bytes | None:
    """What `json_values.scalar` gives; None also for what is no JSON, even where it should be."""
    if payload is None or form is not PayloadKind.JSON:
        return None
    try:
        return json_values.scalar(payload, json_pointer.parse(where))
    except (ValueError, RecursionError):
        return None


class Query(msgspec.Struct, frozen=True):
    """Which events to read. `after` is the seq of the last one seen, in the order asked for.

    All times are inclusive where they begin and exclusive where they end. An event without a
    timestamp matches no `since` and no `until`. Times of arrival grow with seq, but for slow bodies
    and clocks that are set: a store should find them without looking at all events. Every store is
    asked for a `field`, without `IndexesFields` too, and without an index of that place: it may
    then look into each payload.
    """

    topic: str | None = None
    source: str | None = None
    since: int | None = None  # time of the event
    until: int | None = None
    received_since: int | None = None  # time of its arrival
    received_until: int | None = None
    field: FieldIs | None = None
    after: int | None = None
    limit: int = 100
    descending: bool = False


PAGE_BYTES = 2_097_152
"""Bytes of payloads after which a page ends, however many events were asked for."""


CONTENTS_BYTES = 1_048_576
"""Bytes of payloads after which the contents end that are read in one call."""


class Page(msgspec.Struct, frozen=True):
    """Some events that match, in order; `next` is the `after` to go on with, None at the end.

    A page may hold fewer events than asked for, even none, and still have a `next`: that is how
    a store keeps the work of one page bounded when few events match.
    """

    events: list[StoredEvent]
    next: int | None


class Span(msgspec.Struct, frozen=True):
    """The seqs that can be read: from the oldest one kept to the newest; both 0 if none ever was.

    Where events were stored and none is kept, `oldest` is the seq after `newest`.
    """

    oldest: int
    newest: int


class Topic(msgspec.Struct, frozen=True):
    """A topic with stored events: its counts, and seq and arrival of its first and last event."""

    name: str
    stored: int
    duplicate: int
    conflict: int
    first_seq: int
    first_at: int
    last_seq: int
    last_at: int


class StoreTransaction(ABC):
    """What happens to a store as one. `Store.transaction` commits it or rolls it back.

    Calls that only write may be deferred to the next one that reads, or to the commit. `claim` and
    `append` may return a future that is done already, where they need not wait for the store: then
    nothing else runs before the commit begins, and requests are read while it is under way.
    """

    counters: Counters = Counters()
    """With what it has counted. Valid once it has committed, and not before."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """As in `Store`."""
        super().__init_subclass__(**kwargs)
        guard(cls)

    @abstractmethod
    def claim(self, keys: Sequence[bytes]) -> Awaitable[list[KeyOwner | None]]:
        """For each key the event that holds it, or None if it is new; rival claims wait.

        Events appended earlier in this transaction hold their keys already. A claim leaves
        nothing behind: a key that no event is appended under stays new.
        """

    @abstractmethod
    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of these events, in order, up to the one that reaches CONTENTS_BYTES.

        With that one, so at least one: whoever wants more asks again for the rest. Everybody waits
        meanwhile, so no further ones are read.
        """

    @abstractmethod
    def append(self, events: Sequence[Event]) -> Awaitable[list[int]]:
        """Store the events with their keys; return the seq of each, ascending.

        A seq is larger than every one given before, and never given again. Raises KeyHeld, and
        stores none of them, if one's key is held or stands twice among them.
        """

    @abstractmethod
    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        """Add to the counters; `counters` has their new values once that is committed.

        What the store itself counts (`topics`, `quarantined`, `evicted`) is 0 in what is added:
        it knows that best. Of `by_topic` a topic is passed over on which no event was ever stored:
        what came again there is held by an event of another topic.
        """

    @abstractmethod
    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """A part that is undone alone when the block raises; one at a time."""


class Store(ABC):
    """Keys, events and counters behind a URL.

    Any call may raise StoreError, which stops the service until `reopen` succeeds. What the store
    can mend by trying again, it tries again itself; where only the whole transaction can be tried
    again, after a deadlock say, any call of it, or its end, raises TryAgain, and the pipeline runs
    the batch again, ten times in all at most. KeyHeld, from `append` alone, is no failure of the
    store; SettingError, from `key_spec`, `open`, `reopen`, `index`, `backup` and `check`, is for
    operators.

    Whatever else a call raises reaches the caller as StoreFault, a StoreError too
    (`core/store_guard.py`): a driver's errors often share no base, and none may be taken for a
    fault of a stage. Its traceback is in the log.
    """

    is_shared: bool = False
    """Whether other processes may commit to it while it is open here."""

    doing: str = ""
    """What `open`, `reopen`, `index` or `check` is about and how far it is, for the operator.

    Set by a store whose calls take long, and emptied by it when they end; `/readyz` shows it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have the calls of each store raise our errors and no others."""
        super().__init_subclass__(**kwargs)
        guard(cls)

    def __init__(self, url: str) -> None:
        """Raises SettingError if the URL is not one of this store's. Opens nothing."""
        self.url = url

    def grow_early(self) -> None:  # noqa: B027, most stores do the same in any size
        """Do with few events what is otherwise done with millions; called before `open`.

        `aggregator prove` asks for it, so that a short proof reaches what only large stores do.
        """

    @abstractmethod
    async def key_spec(self) -> str | None:
        """What the keys in it are made of; None where nothing was ever stored.

        Asked of a store that is not open, and changes nothing.
        """

    @abstractmethod
    async def open(self, key_spec: str, replaces: str | None = None) -> None:
        """Make ready. What could be read afterwards is durable, whatever happened before.

        Raises SettingError for what an operator must change, such as another process that holds
        the store. A new store keeps the key spec; where an older one has another, KeySpecDiffers
        is raised, unless that is the one which `replaces` names.
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

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """As `StoreTransaction.contents`, of committed events: no transaction waits for it.

        Reads a page for each. A store may have a quicker way.
        """
        found: list[Content] = []
        size = 0
        for seq in seqs:
            content = Content("", None)
            for event in (await self.events(Query(after=seq - 1, limit=1))).events:
                if event.seq == seq:
                    content = Content(
                        event.source, event.payload, event.payload_kind, event.is_damaged
                    )
            found.append(content)
            size += len(content.payload or b"")
            if size >= CONTENTS_BYTES:
                break
        return found

    @abstractmethod
    async def find(self, name: bytes, limit: int, source: str | None = None) -> list[StoredEvent]:
        """The first committed events, by seq, whose key or name this hash is.

        Where a source is given, the first ones from that source.
        """

    @abstractmethod
    async def span(self) -> Span:
        """Which seqs can be read now."""

    @abstractmethod
    async def counters(self) -> Counters:
        """The committed counters, whichever process has committed them."""

    @abstractmethod
    async def topics(self, after: str, limit: int) -> list[Topic]:
        """Up to `limit` topics with stored events, by name, from the one after that name."""

    async def changed(self, after: int) -> int:
        """Wait until an event is stored after that seq, by whatever process; the newest seq.

        Asks again and again, which is all that can be done everywhere. A store that only this
        process writes to tells of its own commits instead, by `NewestSeq`.
        """
        while (newest := (await self.span()).newest) <= after:  # noqa: ASYNC110, nobody tells
            await asyncio.sleep(_LOOK_AGAIN)
        return newest

    @abstractmethod
    def about(self) -> str:
        """For the operator, in a few words: what it is, its version, where the data is."""


_LOOK_AGAIN = 0.25  # seconds; a follower waits so long at most for what another process stored


class Measured(msgspec.Struct, frozen=True):
    """How large a store is, as far as that is known without asking it."""

    last_seq: int
    """That of the last committed event."""
    bytes_by_part: dict[str, int]
    disk_free: int | None = None
    """Bytes that are left where it is; None where nobody knows."""


class MeasuresItself(ABC):
    """What a store adds that can tell its size at once."""

    @abstractmethod
    def measure(self) -> Measured:
        """Its size now. Takes no time to speak of: it is called on the event loop."""


class NewestSeq:
    """The newest seq of a store that only this process writes to, for `Store.changed`."""

    def __init__(self) -> None:
        self._newest = 0
        self._advanced = asyncio.Event()

    def advance(self, newest: int) -> None:
        """It was committed up to there. Wakes those who wait for more than they have seen."""
        if newest > self._newest:
            self._newest = newest
            self._advanced.set()
            self._advanced = asyncio.Event()

    @property
    def seq(self) -> int:
        """The newest seq that is known."""
        return self._newest

    async def wait(self, after: int) -> int:
        """Return the newest seq, once it is larger than `after`."""
        while self._newest <= after:
            await self._advanced.wait()
        return self._newest


class ConflictingContent(msgspec.Struct, frozen=True):
    """A content that is not the stored one: its digest, and JSON pointers to what differs."""

    digest: bytes
    differences: tuple[str, ...]


class Redelivery(msgspec.Struct, frozen=True):
    """An event that came again under the key of the event `seq`, perhaps with another content."""

    seq: int
    source: str
    seen_at: int
    conflicting: ConflictingContent | None = None


class RedeliveryStats(msgspec.Struct, frozen=True):
    """How often an event came again from one source, as a duplicate and as a conflict."""

    source: str
    duplicates: int
    conflicts: int
    first_at: int
    last_at: int


class ConflictStats(msgspec.Struct, frozen=True):
    """How often one conflicting content came, and from which source it came first."""

    digest: bytes
    differences: tuple[str, ...]
    source: str
    times: int
    first_at: int
    last_at: int


class History(msgspec.Struct, frozen=True):
    """What came again under an event's key, the earliest first; each list is cut at a limit."""

    redeliveries: list[RedeliveryStats]
    conflicts: list[ConflictStats]


MOST_CONFLICTS = 100
"""Conflicting contents remembered of one event; further ones are counted only."""


class HistoryTransaction(StoreTransaction):
    """A transaction of a store that `KeepsHistory`."""

    @abstractmethod
    async def record(self, redeliveries: Sequence[Redelivery]) -> None:
        """Keep how often, when first and last, and from which source events came again.

        Of conflicts keep what differed, up to MOST_CONFLICTS contents an event.
        """


class KeepsHistory(Store):
    """A store that keeps what came again under the key of an event.

    Its transactions are `HistoryTransaction`s.
    """

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[HistoryTransaction]:
        """As `Store.transaction`."""

    @abstractmethod
    async def history(self, seq: int, limit: int) -> History:
        """What came again under the key of that event; at most `limit` entries in each list."""


class QuarantineReason(Enum):
    """Why an event is in quarantine."""

    INVALID = "invalid"
    CONFLICT = "conflict"
    FAILED = "failed"


MOST_EVICTED = 20_000
"""The most entries that one call removes from quarantine, so that no batch waits long for it."""

ENTRY_BYTES = 200
"""Bytes that are counted for each entry beside its texts: for its row, indexes and numbers."""


class Quarantined(msgspec.Struct, frozen=True):
    """An event that was not stored and is kept beside, as it was sent.

    The store gives the id when it takes one; ids only grow.
    """

    id: int
    kept_at: int
    reason: QuarantineReason
    submission: str
    topic: str
    event_id: str
    detail: bytes  # what is wrong with it, a JSON array
    is_cloud_event: bool
    headers: dict[str, str]  # those of its request that keys are made of
    body: bytes  # as `Event.as_sent` gives it; may be no JSON
    is_damaged: bool = False  # as in StoredEvent, once it is read back

    @property
    def size(self) -> int:
        """How much of the quarantine it fills: the bytes of all its members, and ENTRY_BYTES."""
        texts = (self.submission, self.topic, self.event_id, *self.headers, *self.headers.values())
        spelled = "".join(texts).encode(errors="surrogatepass")
        return ENTRY_BYTES + len(spelled) + len(self.detail) + len(self.body)


class QuarantineQuery(msgspec.Struct, frozen=True):
    """Which of the events in quarantine to read, by id ascending from the one after `after`."""

    topic: str | None = None
    reason: QuarantineReason | None = None
    submission: str | None = None
    id: int | None = None
    kept_since: int | None = None  # inclusive
    kept_until: int | None = None  # exclusive
    after: int = 0
    limit: int = 100

    def matches(
        self, entry: int, topic: str, reason: QuarantineReason | None, submission: str, kept_at: int
    ) -> bool:
        """Whether an entry with that id and these members matches; ignores `after` and `limit`."""
        return (
            self.id in (None, entry)
            and self.topic in (None, topic)
            and self.reason in (None, reason)
            and self.submission in (None, submission)
            and (self.kept_since is None or self.kept_since <= kept_at)
            and (self.kept_until is None or kept_at < self.kept_until)
        )


class QuarantinePage(msgspec.Struct, frozen=True):
    """Some of them, bounded as a Page is, by their `size`; `next` is the `after` to go on with."""

    entries: list[Quarantined]
    next: int | None


class QuarantineTransaction(StoreTransaction):
    """A transaction of a store that `KeepsQuarantine`."""

    @abstractmethod
    async def quarantine(self, entries: Sequence[Quarantined]) -> None:
        """Keep these, each under an id of its own, whatever id it has."""

    @abstractmethod
    async def drop(self, ids: Sequence[int]) -> None:
        """Remove these from quarantine; one that is not there is passed over."""

    @abstractmethod
    async def evict(self, before: int, most: int) -> int:
        """Remove from quarantine what was kept before that time, then the oldest ones.

        Until the sizes of those left come to at most `most` bytes, but at most MOST_EVICTED in one
        call: call again for the rest. Returns how many were removed, and counts them as evicted.
        Cheap where there is nothing to remove.
        """


class KeepsQuarantine(Store):
    """A store that keeps those that could not be stored beside its events.

    Its transactions are `QuarantineTransaction`s.
    """

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[QuarantineTransaction]:
        """As `Store.transaction`."""

    @abstractmethod
    async def quarantined(self, query: QuarantineQuery) -> QuarantinePage:
        """One page of what is in quarantine."""


class IndexesFields(Store):
    """A store in which events can be found by a field of their payload without a scan."""

    @abstractmethod
    async def index(self, pointers: Sequence[str]) -> None:
        """Index these places in payloads too, JSON pointers; called once it is open.

        What is stored already is found so too. What was indexed before stays so.
        """

    @abstractmethod
    async def indexed(self) -> list[str]:
        """The places that are indexed, or whose index is not complete yet or any more."""

    @abstractmethod
    async def drop_index(self, pointers: Sequence[str]) -> None:
        """Index these places no more, and let go of what was kept for it.

        One that is not indexed is passed over. Where it is stopped in between, what is left is
        not used to find events, and `indexed` still names it.
        """


class OpensReadOnly(Store):
    """A store that can be read where nothing can be written: a full disk, or one of others."""

    @abstractmethod
    async def open_read_only(self, key_spec: str) -> None:
        """Make ready to read, and write nothing, whatever happens; in place of `open`.

        Another process may write meanwhile: `is_shared` is true. What cannot be shown is told in
        the log and by `about`.

        Raises SettingError where there is no store, or it cannot be read as it is; KeySpecDiffers
        where its keys are made of something else.
        """


class Backup(msgspec.Struct, frozen=True):
    """What a copy of a store holds."""

    events: int
    stored: int  # ever, as its counters say: more than `events` where some were removed by hand
    last_seq: int  # of the last event that was stored before the copy's moment; 0 if none was
    size: int  # bytes


class BacksUp(Store):
    """A store that can be copied into a file. Where a server keeps the data, its tools do that."""

    @abstractmethod
    async def backup(self, destination: Path) -> Backup:
        """Write a copy of the store into a new file, while others may read and write it.

        Asked of a store that is not open here. The copy holds the commits up to one moment since
        the call, all of them and nothing else. It is durable when this returns, and can be opened
        as this store can. Until then there is nothing under that name, nor after a failure.

        Raises SettingError for what an operator must change: a file that is there already, say.
        """


class Finding(msgspec.Struct, frozen=True):
    """Damage in a store, in sentences for the operator; one may stand for much of one kind."""

    what: str  # is not as it was written
    means: str  # for what is asked of the store
    do: str


class Checked(msgspec.Struct, frozen=True):
    """What a check has read, and the damage that it has found."""

    events: int
    last_seq: int  # of the last event that was stored
    is_running: bool  # whether a service had the store open
    findings: list[Finding]


class ChecksItself(Store):
    """A store that can read all that it holds, and tell what of it is not as it was written."""

    @abstractmethod
    async def check(self) -> Checked:
        """Read everything, and hold what is derived from the events against them.

        Asked of a store that is not open here; others may read and write it meanwhile. It changes
        nothing, and keeps what others write from being tidied up for a moment at a time only.

        Raises SettingError where there is no store, or it cannot be looked at as things are.
        """

    async def accept_missing_log(self) -> int | None:
        """Let the next start go on without a log that is missing, and what was in it alone.

        Asked of a store that is not open. For one whose newest commits may be in a log beside its
        data, which `open` and `check` refuse to go on without. Returns the last seq that is there;
        None where no log is missing, and nothing is changed then. Raises SettingError where there
        is no store, or somebody has it open.
        """
        return None
