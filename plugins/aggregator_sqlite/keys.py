"""The keys of one transaction: those that it has asked for, and those that it has appended."""

import sqlite3
from asyncio import Future
from collections.abc import Collection, Sequence
from threading import Event as Signal

from aggregator.errors import KeyHeld
from aggregator_sqlite.index import Index
from aggregator_sqlite.runs import KEY, entries


class Keys:
    """What a transaction adds to the index, should it be committed.

    Belongs to the event loop, and to the writer's thread while the transaction waits for that; but
    for a commit, during which both only read it.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._appended: dict[bytes, int] = {}
        self._new: set[bytes] = set()  # no event holds them
        self._entries: list[bytes] | None = None

    @property
    def next_seq(self) -> int:
        """That of the next event that is appended."""
        return self._index.last_seq + len(self._appended) + 1

    def unknown(self, keys: Sequence[bytes]) -> Collection[bytes]:
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

    def take(self, keys: Sequence[bytes]) -> list[int]:
        """Append events with these keys, which were asked for: their seqs.

        Raises KeyHeld if one is held already or stands twice among them.
        """
        if set(map(len, keys)) - {KEY}:
            raise ValueError(f"a key has {KEY} bytes")
        self._index.check_sound()  # not so once the commit is under way
        first = self.next_seq
        taken = dict(zip(keys, range(first, first + len(keys)), strict=True))
        is_new = self._new.issuperset(taken) and self._appended.keys().isdisjoint(taken)
        if len(taken) < len(keys) or not is_new:
            raise KeyHeld("an event was appended under a key that is held")
        self._new.difference_update(taken)
        self._appended |= taken
        return list(taken.values())

    @property
    def mark(self) -> int:
        """For `undo`: the keys that are appended up to now."""
        return len(self._appended)

    def undo(self, mark: int) -> None:
        """Forget those that were appended since: they are new again."""
        while len(self._appended) > mark:
            key, _ = self._appended.popitem()
            self._new.add(key)

    @property
    def left_alone(self) -> set[int]:
        """The blocks that cannot be read, by their first seqs."""
        return self._index.left_alone.blocks

    def expect_commit(self) -> None:
        """To be called before the thread is asked to commit."""
        self._index.expect_commit()

    def commit(self, db: sqlite3.Connection, is_due: Signal) -> None:
        """Commit the transaction. For the thread."""
        self._index.commit(db, len(self._appended), is_due)

    def prepare(self) -> None:
        """Do what can be done of `add` while the commit is under way."""
        self._entries = entries(self._appended)

    def add(self, committing: Future[None]) -> None:
        """Add what was appended to the index, if it was committed.

        After a commit that has failed the index stays unsound, as it does if `prepare` has.
        """
        if not committing.exception() and self._entries is not None:
            self._index.add(self._appended, self._entries)
