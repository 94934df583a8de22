"""The keys of one transaction: those that it has asked for, and those that it has appended."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from aggregator.errors import KeyHeld
from aggregator_sqlite.index import Index
from aggregator_sqlite.runs import KEY


class Keys:
    """What a transaction adds to the index, should it be committed."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._appended: dict[bytes, int] = {}
        self._new: set[bytes] = set()  # no committed event holds them

    def held(self, db: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Those of the keys that events hold, each with its event's seq."""
        wanted = set(keys)
        held = self._index.held(db, wanted - self._new)
        self._new |= wanted - held.keys()
        held.update((key, self._appended[key]) for key in wanted & self._appended.keys())
        return held

    def take(self, db: sqlite3.Connection, keys: Sequence[bytes], seqs: Iterable[int]) -> None:
        """Events with these keys and seqs are appended. Raises KeyHeld if one is held already."""
        if set(map(len, keys)) - {KEY}:
            raise ValueError(f"a key has {KEY} bytes")
        taken = dict(zip(keys, seqs, strict=True))
        if len(taken) < len(keys) or self._is_one_held(db, taken):
            raise KeyHeld("an event was appended under a key that is held")
        self._appended |= taken

    @property
    def mark(self) -> int:
        """For `undo`: the keys that are appended up to now."""
        return len(self._appended)

    def undo(self, mark: int) -> None:
        """Forget those that were appended since."""
        while len(self._appended) > mark:
            self._appended.popitem()

    def commit(self, db: sqlite3.Connection) -> None:
        """Commit the transaction, and with it what it adds to the index."""
        self._index.commit(db, self._appended)

    def _is_one_held(self, db: sqlite3.Connection, taken: Mapping[bytes, int]) -> bool:
        if not self._appended.keys().isdisjoint(taken):
            return True
        return not self._new.issuperset(taken) and bool(self._index.held(db, taken))
