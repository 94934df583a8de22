"""The index of keys: which event holds a key, and which have a name.

It is derived from the events, which are the truth, and works as a log-structured merge tree: the
newest keys are in memory alone, and are read from the events again when the store is opened; enough
of them become a run on disk (`runs.py`). So no key is ever written at a random place. A Bloom
filter tells of nearly every new key that it is new. docs/decisions/0017 has the reasons.
"""

import asyncio
import logging
import sqlite3
from asyncio import Future
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from threading import RLock

from rbloom import Bloom

from aggregator.errors import KeyHeld, StoreError
from aggregator_sqlite import blocks
from aggregator_sqlite.connection import SqliteThread, UnreadableRows, immediate_transaction
from aggregator_sqlite.runs import (
    KEY,
    PAGES_AT_ONCE,
    Compactor,
    Named,
    Run,
    load_runs,
    sorted_entries,
)

log = logging.getLogger(__name__)

KEYS_IN_MEMORY = 16_384  # so many become a run
MOST_NAMED = 10_000  # seqs that `named` gives at once, about

LAST_SEQ = "SELECT last_seq FROM counters"

_FIRST_CAPACITY = 4_000_000  # keys; of the first filter, at least
_GROWTH = 4  # of the next filter's capacity: few filters, because a lookup asks all of them
_FALSE_POSITIVES = 0.001  # of new keys, at most
_RETRY_AFTER = 60.0  # seconds

Connect = Callable[[], Awaitable[SqliteThread]]


class KeyFilter:
    """A Bloom filter over the keys of committed events: most new keys need no lookup.

    1.8 bytes a key; one new key in 1,000 is looked up in vain where a filter is full, and far fewer
    before. Keys are only ever added, by any thread. It may contain keys that no event holds, but
    lacks none.
    """

    def __init__(self) -> None:
        self.is_warming_up = False
        """Whether the keys of the runs are being added: no run may be compacted meanwhile."""
        self.is_complete = False
        """Whether the keys of all runs were added; until then every key is looked up."""
        self._filters: list[Bloom] = []
        self._capacity = self._room = 0
        self._lock = RLock()

    def reserve(self, keys: int) -> None:
        """Make the first filter large enough for so many; once there is one, do nothing."""
        with self._lock:
            if not self._filters:
                self._grow(keys)

    def add(self, keys: Collection[bytes]) -> None:
        """Add keys; into a further filter, several times as large, when the last one is full."""
        with self._lock:
            if self._room < len(keys):
                self._grow(_GROWTH * self._capacity)
            self._filters[-1].update(keys)
            self._room -= len(keys)

    def may_hold(self, keys: Set[bytes]) -> Set[bytes]:
        """The keys that events may hold. None of the others is held."""
        if not self.is_complete:
            return keys
        return {key for one in tuple(self._filters) for key in keys if key in one}

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """The keys that were certainly never added."""
        filters = tuple(self._filters)
        return [key for key in keys if not any(key in one for one in filters)]

    def _grow(self, keys: int) -> None:
        self._capacity = self._room = max(keys, _FIRST_CAPACITY)
        self._filters.append(Bloom(self._room, _FALSE_POSITIVES))


@dataclass(frozen=True)
class State:
    """Where the committed keys are.

    Replaced as a whole when a run is written or replaced: other threads find a key either in memory
    or in a run, whenever they look.
    """

    recent: dict[bytes, int] = field(default_factory=dict)
    names: dict[bytes, list[int]] = field(default_factory=dict)
    """The events with each of the recent names."""
    runs: tuple[Run, ...] = ()  # newest events first
    entries: list[list[bytes]] = field(default_factory=list)
    """The recent keys and names again, as entries of a run: a sorted list a commit. To merge these
    takes a moment; to sort all keys at once held up everybody."""

    def add(self, seqs: dict[bytes, int], names: Iterable[Named], entries: list[bytes]) -> None:
        """Add committed keys and names with their seqs, and the same as sorted entries of a run."""
        if seqs:
            self.recent.update(seqs)
            for name, seq in names:
                self.names.setdefault(name, []).append(seq)
            self.entries.append(entries)

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the event that holds the key, if any."""
        if seq := self.recent.get(key):
            return seq
        return next((seq for run in self.runs if (seq := run.find(db, key))), None)

    def find_all(self, db: sqlite3.Connection, keys: Collection[bytes]) -> dict[bytes, int]:
        """Those of the keys that events hold, with their seqs: each page is read once for all."""
        recent = self.recent
        found = {key: recent[key] for key in keys if key in recent}
        missing = sorted(set(keys) - found.keys())
        for run in self.runs:
            if not missing:
                break
            if in_run := run.find_all(db, missing):
                found |= in_run
                missing = [key for key in missing if key not in in_run]
        return found

    def named(self, db: sqlite3.Connection, name: bytes, after: int) -> list[int]:
        """The seqs of the first events after that one with the name, in order."""
        older = _named(db, self.runs, name, after)
        recent = (seq for seq in self.names.get(name, ()) if seq > after)
        return list(islice(chain(older, recent), MOST_NAMED))

    @property
    def indexed_to(self) -> int:
        """The keys of the events up to this seq are in runs."""
        return self.runs[0].upto if self.runs else 0


class KeyIndex:
    """Which committed event holds a key. Belongs to the writer; any thread may call `find`.

    After a commit has failed, nobody knows which keys are held until a new index is made: it is not
    valid, and answers nothing.
    """

    def __init__(
        self, db: sqlite3.Connection, key_filter: KeyFilter, unreadable: UnreadableRows
    ) -> None:
        """Begin with the runs in the file. To be completed by `read_some`."""
        self.unreadable = unreadable
        self.key_filter = key_filter
        found = load_runs(db)
        key_filter.reserve(2 * sum(run.entries for run in found))
        self.state = State(runs=tuple(found))
        self.last_seq: int = db.execute(LAST_SEQ).fetchone()[0]
        """That of the last committed event."""
        self._compactor = Compactor(db, found, unreadable)
        self.read_to = self.state.indexed_to
        """The last event whose key was read."""
        self._is_valid = True

    def read_some(self, db: sqlite3.Connection) -> bool:
        """Read some of the keys that are in no run; whether there may be more.

        Writes runs of them where they are many, so that this also makes a whole index anew.
        """
        with closing(blocks.keys_since(db, self.read_to + 1, self.last_seq)) as keys:
            rows = list(islice(keys, KEYS_IN_MEMORY))
        if len(self.state.recent) >= KEYS_IN_MEMORY:
            with immediate_transaction(db):
                state = self.prepare_commit(db, sum(map(len, self.state.entries)))
            self.committed(state)
        seqs = {key: seq for key, _, seq in rows}
        names = [(name, seq) for _, name, seq in rows if name]
        self.key_filter.add(self.key_filter.missing(seqs))
        self.state.add(seqs, names, sorted_entries(seqs, names))
        self.read_to = rows[-1][2] if rows else self.read_to
        return len(rows) == KEYS_IN_MEMORY

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the committed event that holds the key, if any.

        Looks again where runs were compacted meanwhile: their pages may be gone.
        """
        while True:
            state = self.state
            try:
                seq = state.find(db, key)
            except StoreError:
                if state is self.state:
                    raise
            else:
                if seq or state is self.state:
                    return seq

    def named(self, db: sqlite3.Connection, name: bytes, after: int) -> list[int]:
        """The seqs of the first committed events after that one with the name, in order.

        Looks again as `find` does.
        """
        while True:
            state = self.state
            try:
                return state.named(db, name, after)
            except StoreError:
                if state is self.state:
                    raise

    def may_hold(self, keys: Set[bytes]) -> Set[bytes]:
        """The keys that have to be looked up. None of the others is held."""
        self.check_valid()
        return self.key_filter.may_hold(keys)

    def held(self, db: sqlite3.Connection, keys: Collection[bytes]) -> dict[bytes, int]:
        """Look the keys up: those that committed events hold, with the seqs."""
        self.check_valid()
        return self.state.find_all(db, keys)

    def begin_commit(self) -> None:
        """Be invalid until `add` follows a commit that succeeded: no key may be called new."""
        self.check_valid()
        self._is_valid = False

    def prepare_commit(self, db: sqlite3.Connection, appended: int) -> State:
        """Write and compact runs in the transaction that has appended so many entries.

        Returns the state that holds once it is committed, for `committed`.
        """
        state = self.state
        if len(state.recent) >= KEYS_IN_MEMORY:
            entries = sorted(chain.from_iterable(state.entries))
            names = sum(map(len, state.names.values()))
            upto = max(state.recent.values())
            run = self._compactor.write(db, entries, names, state.indexed_to, upto)
            state = State(runs=(run, *state.runs))
        runs = self._compactor.compact(
            db, state.runs, appended, pause=self.key_filter.is_warming_up
        )
        return state if runs is state.runs else replace(state, runs=runs)

    def committed(self, state: State) -> None:
        """Take over the state that `prepare_commit` has returned."""
        self.state = state
        self._compactor.committed()

    def add(self, appended: dict[bytes, int], names: Iterable[Named], entries: list[bytes]) -> None:
        """Add the keys and names that were committed, and be valid again. On the event loop."""
        self.key_filter.add(appended)
        self.state.add(appended, names, entries)
        self.last_seq += len(appended)
        self._is_valid = True

    def check_valid(self) -> None:
        """Raise StoreError after a commit that failed: it may or may not be on the disk."""
        if not self._is_valid:
            raise StoreError("a commit has failed: the index of keys must be read again")


class KeysInFile:
    """Which event holds a key, by the file alone: for who only reads, while another may write.

    A lookup reads the newest keys, some 16,000 at most: a few milliseconds.
    """

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the committed event that holds the key, if any."""
        db.execute("BEGIN")  # all of it at one moment: another process may merge runs
        try:
            found = load_runs(db)
            if seq := next((seq for run in found if (seq := run.find(db, key))), None):
                return seq
            last_seq = db.execute(LAST_SEQ).fetchone()[0]
            indexed_to = found[0].upto if found else 0
            with closing(blocks.keys_since(db, indexed_to + 1, last_seq)) as newest:
                return next((seq for held, _, seq in newest if held == key), None)
        finally:
            db.execute("COMMIT")

    def named(self, db: sqlite3.Connection, name: bytes, after: int) -> list[int]:
        """The seqs of the first committed events after that one with the name, in order."""
        db.execute("BEGIN")
        try:
            found = load_runs(db)
            last_seq = db.execute(LAST_SEQ).fetchone()[0]
            since = max(found[0].upto if found else 0, after) + 1
            with closing(blocks.keys_since(db, since, last_seq)) as newest:
                recent = (seq for _, held, seq in newest if held == name)
                return list(islice(chain(_named(db, found, name, after), recent), MOST_NAMED))
        finally:
            db.execute("COMMIT")


def _named(db: sqlite3.Connection, runs: Sequence[Run], name: bytes, after: int) -> Iterator[int]:
    """The seqs after that one of the events in these runs that have the name, in order."""
    for run in reversed(runs):
        if run.names and run.upto > after:
            yield from (seq for seq in run.named(db, name) if seq > after)


class KeyClaims:
    """The keys that one transaction has asked for and appended: the index gets them if it commits.

    Used by the event loop, and by the writer's thread while the event loop waits for it. During the
    commit both are at work, and neither changes it.
    """

    def __init__(self, index: KeyIndex) -> None:
        self._index = index
        self._appended: dict[bytes, int] = {}
        self._names: list[Named] = []  # of what was appended
        self._new: set[bytes] = set()  # asked for, and no event holds them
        self._entries: list[bytes] | None = None

    @property
    def next_seq(self) -> int:
        """The seq of the next event that is appended."""
        return self._index.last_seq + len(self._appended) + 1

    def to_look_up(self, keys: Sequence[bytes]) -> Collection[bytes]:
        """The keys that have to be looked up, by `held`. None of the others is held."""
        if self._new.issuperset(keys):  # the usual case: claimed before they are appended
            return ()
        wanted = set(keys) - self._new
        unknown = self._index.may_hold(wanted)
        if self._appended:
            unknown = unknown | (wanted & self._appended.keys())
        self._new |= wanted
        self._new -= unknown
        return unknown

    def held(self, db: sqlite3.Connection, keys: Collection[bytes]) -> dict[bytes, int]:
        """Look the keys up: those that events hold, with the seqs. On the writer's thread."""
        held = {key: self._appended[key] for key in self._appended.keys() & keys}
        held |= self._index.held(db, keys - held.keys())
        self._new |= keys - held.keys()
        return held

    def assign_seqs(self, keys: Sequence[bytes], names: Sequence[Named] = ()) -> list[int]:
        """Give the next seqs to events with these keys, which were asked for before.

        `names` are those of them that are found by one, with the seqs that they are given.

        Raises KeyHeld if one is held already or stands twice among them.
        """
        if set(map(len, keys)) - {KEY}:
            raise ValueError(f"a key has {KEY} bytes")
        self._index.check_valid()  # it is not once the commit has begun
        first = self.next_seq
        taken = dict(zip(keys, range(first, first + len(keys)), strict=True))
        is_new = self._new.issuperset(taken) and self._appended.keys().isdisjoint(taken)
        if len(taken) < len(keys) or not is_new:
            raise KeyHeld("an event was appended under a key that is held")
        self._new.difference_update(taken)
        self._appended |= taken
        self._names += names
        return list(taken.values())

    @property
    def appended(self) -> int:
        """How many keys are appended up to now: what `undo_to` goes back to."""
        return len(self._appended)

    @property
    def entries(self) -> int:
        """How many entries the index gets."""
        return len(self._appended) + len(self._names)

    def undo_to(self, appended: int) -> None:
        """Forget the keys appended since then: they are new again."""
        while len(self._appended) > appended:
            key, _ = self._appended.popitem()
            self._new.add(key)
        while self._names and self._names[-1][1] >= self.next_seq:
            self._names.pop()

    @property
    def unreadable(self) -> set[int]:
        """First seqs of the blocks that cannot be read."""
        return self._index.unreadable.blocks

    def sort_entries(self) -> None:
        """Prepare `add_to_index` while the disk is busy with the commit."""
        self._entries = sorted_entries(self._appended, self._names)

    def add_to_index(self, committing: Future[None]) -> None:
        """Add the appended keys to the index if the commit has succeeded.

        If it has failed, or `sort_entries` has, the index stays invalid.
        """
        if not committing.exception() and self._entries is not None:
            self._index.add(self._appended, self._names, self._entries)


async def warm_up(
    key_filter: KeyFilter, runs: Callable[[], Sequence[Run]], connect: Connect
) -> None:
    """Add the keys of all runs to the filter, on a connection of its own; retry after damage."""
    added: dict[int, int] = {}
    while not key_filter.is_complete:
        key_filter.is_warming_up = True
        try:
            await _read(key_filter, runs(), connect, added)
            key_filter.is_complete = True
        except StoreError as error:
            log.error("new events take longer for the time being: %s", error)
            await asyncio.sleep(_RETRY_AFTER)
        finally:
            key_filter.is_warming_up = False


async def _read(
    key_filter: KeyFilter, runs: Sequence[Run], connect: Connect, added: dict[int, int]
) -> None:
    """Go on where the last try has ended: `added` has the number of pages read, by run id.

    To add keys again would take room in the filter again.
    """
    reader = await connect()
    try:
        for run in runs:
            for first in range(added.get(run.id, 0), len(run.fences), PAGES_AT_ONCE):
                key_filter.add(await reader.run(run.some_keys, first, PAGES_AT_ONCE))
                added[run.id] = first + PAGES_AT_ONCE
    finally:
        await reader.close()
