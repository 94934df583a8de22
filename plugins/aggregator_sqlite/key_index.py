"""The index of keys: which event holds a key. It is derived from the events, which are the truth.

The newest keys are in memory alone, and are read from the events again when the store is opened.
Enough of them become a run, and runs that are alike are merged into a larger one: so no key is ever
written at a random place. Both is done within the transactions that store events, a little in each.
"""

import asyncio
import logging
import sqlite3
from asyncio import Future
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from threading import RLock

from rbloom import Bloom

from aggregator.errors import KeyHeld, StoreError
from aggregator_sqlite import blocks
from aggregator_sqlite.connection import SqliteThread, UnreadableRows, immediate_transaction
from aggregator_sqlite.runs import KEY, PAGES_AT_ONCE, Compactor, Run, load_runs, sorted_entries

log = logging.getLogger(__name__)
KEYS_IN_MEMORY = 16_384  # keys, after which they become a run
LAST_SEQ = "SELECT last_seq FROM counters"
_FIRST = 4_000_000  # keys
_MORE = 4  # times as many in the next filter: each of them is asked
_WRONG = 0.0002  # of the new keys seem to be known, at the most
_RETRY_AFTER = 60.0  # seconds until it is tried again
Connect = Callable[[], Awaitable[SqliteThread]]


class KeyFilter:
    """Tells of most keys that they are certainly new, without looking for them.

    A Bloom filter in memory of the keys that committed events hold, or somewhat more than these:
    2.2 bytes a key, and one key in 5,000 has to be looked for in vain.

    Keys are only ever added, by any thread.
    """

    def __init__(self) -> None:
        self.is_warming_up = False
        """Whether the keys of the runs are being added: until then no run may be merged."""
        self.is_complete = False
        """Whether every key that is in a run was added; until then any key may be known."""
        self._filters: list[Bloom] = []
        self._capacity = self._room = 0
        self._turn = RLock()

    def reserve(self, keys: int) -> None:
        """Make room for so many, so that one filter holds them; nothing where there is some."""
        with self._turn:
            if not self._filters:
                self._grow(keys)

    def add(self, keys: Collection[bytes]) -> None:
        """Add these. Where the room is used up, another filter has more of it."""
        with self._turn:
            if self._room < len(keys):
                self._grow(_MORE * self._capacity)
            self._filters[-1].update(keys)
            self._room -= len(keys)

    def may_hold(self, keys: Set[bytes]) -> Set[bytes]:
        """Those of the keys that may be held."""
        if not self.is_complete:
            return keys
        return {key for one in tuple(self._filters) for key in keys if key in one}

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of the keys that were certainly never added, however complete it is."""
        filters = tuple(self._filters)
        return [key for key in keys if not any(key in one for one in filters)]

    def _grow(self, keys: int) -> None:
        self._capacity = self._room = max(keys, _FIRST)
        self._filters.append(Bloom(self._room, _WRONG))


@dataclass(frozen=True)
class State:
    """Where the committed keys are; replaced as a whole when a run is written or replaced."""

    recent: dict[bytes, int] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()  # those of the newest events first
    entries: list[list[bytes]] = field(default_factory=list)
    """Those of the recent keys, of each commit by themselves and in order: nobody waits for one
    long sort."""

    def add(self, seqs: dict[bytes, int], entries: list[bytes]) -> None:
        """Add committed keys, each with its event's seq, and as they stand in pages."""
        if seqs:
            self.recent.update(seqs)
            self.entries.append(entries)

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the event that holds the key."""
        if seq := self.recent.get(key):
            return seq
        return next((seq for run in self.runs if (seq := run.find(db, key))), None)

    @property
    def indexed_to(self) -> int:
        """The keys of the events up to this seq are in runs."""
        return self.runs[0].upto if self.runs else 0


class KeyIndex:
    """Belongs to the connection that writes; `find` may be asked from others too.

    Begins with the runs that the file has. `read_some` is to be called until there is no more.
    """

    def __init__(
        self, db: sqlite3.Connection, key_filter: KeyFilter, unreadable: UnreadableRows
    ) -> None:
        self.unreadable = unreadable
        self.key_filter = key_filter
        """A superset of all keys, but while a commit is under way or has failed: then the index is
        not sound, and tells of no key."""
        found = load_runs(db)
        key_filter.reserve(2 * sum(run.keys for run in found))
        self.state = State({}, tuple(found))
        self.last_seq: int = db.execute(LAST_SEQ).fetchone()[0]
        """Of the events that are committed."""
        self._compactor = Compactor(db, found, unreadable)
        self._read_to = self.state.indexed_to
        self._is_valid = True

    def read_some(self, db: sqlite3.Connection) -> bool:
        """Read keys that are in no run; whether there may be more. Makes runs where they are many.

        So the index is made, part by part, where there is none.
        """
        with closing(blocks.keys_since(db, self._read_to + 1, self.last_seq)) as keys:
            rows = list(islice(keys, KEYS_IN_MEMORY))
        if len(self.state.recent) >= KEYS_IN_MEMORY:
            with immediate_transaction(db):
                state = self.prepare_commit(db, len(self.state.recent))
            self.committed(state)
        self.key_filter.add(self.key_filter.missing(key for key, _ in rows))
        self.state.add(seqs := dict(rows), sorted_entries(seqs))
        self._read_to = rows[-1][1] if rows else self._read_to
        return len(rows) == KEYS_IN_MEMORY

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the committed event that holds the key.

        A run that was merged meanwhile has lost its pages: then it is looked for again.
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

    def may_hold(self, keys: Set[bytes]) -> Set[bytes]:
        """Those of the keys that have to be looked for; none of the others is held."""
        self.check_valid()
        return self.key_filter.may_hold(keys)

    def held(self, db: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Those of the keys that committed events hold, each with its event's seq."""
        self.check_valid()
        state = self.state
        return {key: seq for key in keys if (seq := state.find(db, key))}

    def begin_commit(self) -> None:
        """Tell nobody that a key is new until the keys that are committed are added."""
        self.check_valid()
        self._is_valid = False

    def prepare_commit(self, db: sqlite3.Connection, keys: int) -> State:
        """Work on the runs within the transaction that has appended so many keys.

        Returns the state that is true once that is committed, for `committed`.
        """
        state = self.state
        if len(state.recent) >= KEYS_IN_MEMORY:
            entries = sorted(chain.from_iterable(state.entries))
            run = self._compactor.write(db, entries, state.indexed_to, max(state.recent.values()))
            state = State({}, (run, *state.runs))
        runs = self._compactor.compact(db, state.runs, keys, pause=self.key_filter.is_warming_up)
        return state if runs is state.runs else State(state.recent, runs, state.entries)

    def committed(self, state: State) -> None:
        """What was prepared is committed."""
        self.state = state
        self._compactor.committed()

    def add(self, appended: dict[bytes, int], entries: list[bytes]) -> None:
        """Add what was committed. For the event loop."""
        self.key_filter.add(appended)
        self.state.add(appended, entries)
        self.last_seq += len(appended)
        self._is_valid = True

    def check_valid(self) -> None:
        """After a commit whose fate is unknown nobody knows which keys are held."""
        if not self._is_valid:
            raise StoreError("a commit has failed: the index of keys must be read again")


class KeyClaims:
    """What a transaction adds to the index, should it be committed.

    Belongs to the event loop, and to the writer's thread while the transaction waits for that; but
    for a commit, during which both only read it.
    """

    def __init__(self, index: KeyIndex) -> None:
        self._index = index
        self._appended: dict[bytes, int] = {}
        self._new: set[bytes] = set()  # no event holds them
        self._entries: list[bytes] | None = None

    @property
    def next_seq(self) -> int:
        """That of the next event that is appended."""
        return self._index.last_seq + len(self._appended) + 1

    def to_look_up(self, keys: Sequence[bytes]) -> Collection[bytes]:
        """Those of the keys that have to be looked for, since an event may hold them."""
        if self._new.issuperset(keys):  # as claimed before they are appended
            return ()
        wanted = set(keys) - self._new
        unknown = self._index.may_hold(wanted)
        if self._appended:
            unknown = unknown | (wanted & self._appended.keys())
        self._new |= wanted
        self._new -= unknown
        return unknown

    def held(self, db: sqlite3.Connection, keys: Collection[bytes]) -> dict[bytes, int]:
        """Those of the keys that events hold, each with its event's seq. For the thread."""
        held = {key: self._appended[key] for key in self._appended.keys() & keys}
        held |= self._index.held(db, keys - held.keys())
        self._new |= keys - held.keys()
        return held

    def assign_seqs(self, keys: Sequence[bytes]) -> list[int]:
        """Append events with these keys, which were asked for: their seqs.

        Raises KeyHeld if one is held already or stands twice among them.
        """
        if set(map(len, keys)) - {KEY}:
            raise ValueError(f"a key has {KEY} bytes")
        self._index.check_valid()  # not so once the commit is under way
        first = self.next_seq
        taken = dict(zip(keys, range(first, first + len(keys)), strict=True))
        is_new = self._new.issuperset(taken) and self._appended.keys().isdisjoint(taken)
        if len(taken) < len(keys) or not is_new:
            raise KeyHeld("an event was appended under a key that is held")
        self._new.difference_update(taken)
        self._appended |= taken
        return list(taken.values())

    @property
    def appended(self) -> int:
        """For `undo_to`: the keys that are appended up to now."""
        return len(self._appended)

    def undo_to(self, appended: int) -> None:
        """Forget those that were appended since: they are new again."""
        while len(self._appended) > appended:
            key, _ = self._appended.popitem()
            self._new.add(key)

    @property
    def unreadable(self) -> set[int]:
        """The blocks that cannot be read, by their first seqs."""
        return self._index.unreadable.blocks

    def sort_entries(self) -> None:
        """Do what can be done of `add_to_index` while the commit is under way."""
        self._entries = sorted_entries(self._appended)

    def add_to_index(self, committing: Future[None]) -> None:
        """Add what was appended to the index, if it was committed.

        After a commit that has failed the index stays unsound, as it does if `sort_entries` has.
        """
        if not committing.exception() and self._entries is not None:
            self._index.add(self._appended, self._entries)


async def warm_up(
    key_filter: KeyFilter, runs: Callable[[], Sequence[Run]], connect: Connect
) -> None:
    """Add the keys of the runs, on a connection of its own. Until then keys are looked for."""
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
    """Go on where it has ended last: `added` has how many pages of each run, by its id.

    The filter grows with what is added to it, known to it or not.
    """
    reader = await connect()
    try:
        for run in runs:
            for first in range(added.get(run.id, 0), len(run.fences), PAGES_AT_ONCE):
                key_filter.add(await reader.run(run.some_keys, first, PAGES_AT_ONCE))
                added[run.id] = first + PAGES_AT_ONCE
    finally:
        await reader.close()
