"""Runs: keys in order, and the seq of the event that holds each, in leaves that are never changed.

A leaf fills a page of the database. Where a key can be is known without reading: of each run the
beginnings of its leaves are held in memory, 8 bytes a leaf.
"""

import sqlite3
import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from aggregator.errors import StoreError

KEY = 16  # bytes
ENTRY = KEY + 8
PER_LEAF = 168  # entries; with its checksum a leaf is as large as a row in a page can be
LEAVES_AT_ONCE = 100
"""Some milliseconds of work."""
_SUM = 4
_FENCE = 8
END = 2 ** (8 * _FENCE)
"""More than the beginning of any key."""
_LEAVES = 2**24  # the most that a run can have

ADD_LEAF = "INSERT INTO leaves (id, entries) VALUES (?, ?)"
LEAF = "SELECT entries FROM leaves WHERE id = ?"
SOME_LEAVES = "SELECT id, entries FROM leaves WHERE id BETWEEN ? AND ? ORDER BY id"
NEXT_LEAF = "SELECT min(id) FROM leaves WHERE id >= ?"
LAST_LEAF = "SELECT max(id) FROM leaves WHERE id < ?"
REMOVE_LEAVES = "DELETE FROM leaves WHERE id BETWEEN ? AND ?"
ADD_RUN = "INSERT INTO runs (id, level, keys, fences) VALUES (?, ?, ?, ?)"
REMOVE_RUN = "DELETE FROM runs WHERE id = ?"
RUNS = "SELECT id, level, keys, fences FROM runs ORDER BY id DESC"


@dataclass(eq=False)
class Run:
    """One run, whole on disk or while it is written, leaf after leaf."""

    id: int
    level: int
    keys: int = 0
    fences: "array[int]" = field(default_factory=lambda: array("Q"))

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the event that holds the key. Raises StoreError for a damaged leaf."""
        beginning = _beginning(key)
        first = max(bisect_left(self.fences, beginning) - 1, 0)
        for number in range(first, bisect_right(self.fences, beginning)):
            leaf = db.execute(LEAF, (self._id(number),)).fetchone()
            seq = _find(_sound(leaf[0] if leaf else b""), key)
            if seq is not None:
                return seq
        return None

    def between(self, db: sqlite3.Connection, low: int, high: int) -> list[bytes]:
        """The entries of those keys whose beginning is `low` or more, and less than `high`."""
        first = max(bisect_left(self.fences, low) - 1, 0)
        last = bisect_left(self.fences, high) - 1
        if last < first:
            return []
        rows = db.execute(SOME_LEAVES, (self._id(first), self._id(last))).fetchall()
        if len(rows) != last - first + 1:
            raise StoreError(_DAMAGED)
        found = [entry for _, leaf in rows for entry in split(_sound(leaf))]
        return found[bisect_left(found, _bytes(low)) : bisect_left(found, _bytes(high))]

    def some_keys(self, db: sqlite3.Connection, first: int, leaves: int) -> list[bytes]:
        """The keys in so many leaves, from number `first` on."""
        rows = db.execute(SOME_LEAVES, (self._id(first), self._id(first + leaves - 1)))
        sound = [_sound(leaf) for _, leaf in rows]
        return [leaf[at : at + KEY] for leaf in sound for at in range(0, len(leaf), ENTRY)]

    def write(self, db: sqlite3.Connection, entries: Sequence[bytes]) -> None:
        """Add leaves with these entries, which are in order and follow those that it has."""
        leaves = [entries[at : at + PER_LEAF] for at in range(0, len(entries), PER_LEAF)]
        first = len(self.fences)
        self.fences.extend(_beginning(leaf[0]) for leaf in leaves)
        self.keys += len(entries)
        ids = range(self._id(first), self._id(first + len(leaves)))
        db.executemany(ADD_LEAF, zip(ids, map(_summed, leaves), strict=True))

    def finish(self, db: sqlite3.Connection) -> None:
        """Make it one of the runs: it is whole."""
        db.execute(ADD_RUN, (self.id, self.level, self.keys, _swapped(self.fences).tobytes()))

    def remove(self, db: sqlite3.Connection) -> None:
        """Make it none of the runs; its leaves stay."""
        db.execute(REMOVE_RUN, (self.id,))

    def remove_leaves(self, db: sqlite3.Connection, first: int, last: int) -> None:
        """Remove the leaves from number `first` to number `last`."""
        db.execute(REMOVE_LEAVES, (self._id(first), self._id(last)))

    def _id(self, number: int) -> int:
        return self.id * _LEAVES + number


def kept(db: sqlite3.Connection) -> list[Run]:
    """The runs that the file has, the newest first."""
    return [
        Run(number, level, keys, _swapped(array("Q", fences)))
        for number, level, keys, fences in db.execute(RUNS)
    ]


def left_over(db: sqlite3.Connection, runs: Iterable[Run]) -> Iterator[Run]:
    """Those that were not finished, or not removed to the end: they have leaves and no more."""
    known = {run.id for run in runs}
    leaf = 0
    while (found := db.execute(NEXT_LEAF, (leaf,)).fetchone()[0]) is not None:
        run, leaf = found // _LEAVES, (found // _LEAVES + 1) * _LEAVES
        if run not in known:
            last = db.execute(LAST_LEAF, (leaf,)).fetchone()[0]
            yield Run(run, 0, 0, array("Q", bytes(_FENCE * (last % _LEAVES + 1))))


def entry(key: bytes, seq: int) -> bytes:
    """As it stands in a leaf; entries are in the order of their keys."""
    return key + seq.to_bytes(ENTRY - KEY)


def split(leaf: bytes) -> list[bytes]:
    """The entries of a leaf."""
    return [leaf[at : at + ENTRY] for at in range(0, len(leaf), ENTRY)]


def _find(leaf: bytes, key: bytes) -> int | None:
    place = leaf.find(key)
    while place % ENTRY and place > 0:
        place = leaf.find(key, place + 1)
    return None if place < 0 else int.from_bytes(leaf[place + KEY : place + ENTRY])


def _summed(entries: Sequence[bytes]) -> bytes:
    leaf = b"".join(entries)
    return leaf + zlib.crc32(leaf).to_bytes(_SUM)


def _sound(leaf: bytes) -> bytes:
    """A key that a flipped bit hides would be new, and its event stored twice."""
    entries = leaf[:-_SUM]
    if zlib.crc32(entries).to_bytes(_SUM) != leaf[-_SUM:]:
        raise StoreError(_DAMAGED)
    return entries


_DAMAGED = "the index of keys is damaged; docs/reliability.md tells how to make it anew"


def _beginning(key: bytes) -> int:
    return int.from_bytes(key[:_FENCE])


def _bytes(beginning: int) -> bytes:
    return beginning.to_bytes(_FENCE) if beginning < END else b"\xff" * (ENTRY + 1)


def _swapped(fences: "array[int]") -> "array[int]":
    """From the order of bytes in memory to that on disk, or back: the largest comes first."""
    swapped = array("Q", fences)
    if sys.byteorder == "little":
        swapped.byteswap()
    return swapped
