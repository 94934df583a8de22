"""Runs: keys in order, and the seq of the event that holds each, in leaves that are never changed.

A leaf fills a page of the database. Where a key can be is known without reading: of each run the
beginnings of its leaves are held in memory, 8 bytes a leaf.
"""

import logging
import sqlite3
import struct
import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from aggregator.errors import StoreError
from aggregator_sqlite.connection import Bulk, LeftAlone, Unreadable, reading

log = logging.getLogger(__name__)

KEY = 16  # bytes
ENTRY = KEY + 8
PER_LEAF = 168  # entries; with its checksum a leaf is as large as a row in a page can be
LEAVES_AT_ONCE = 50
"""About as many keys as are merged at once."""
_ENTRY = struct.Struct(f">{KEY}sQ")
_CUTS = {size: struct.Struct(f"{size}s{ENTRY - size}x" * PER_LEAF) for size in (KEY, ENTRY)}
_SUM = 4
_FENCE = 8
END = 2 ** (8 * _FENCE)
"""More than the beginning of any key."""
ALIKE = 8  # runs that are merged into one
AT_ONCE = 8_192  # keys, about: keys are hashes, so a slice of them holds its share
_LEAVES = 2**24  # the most that a run can have
ADD_LEAVES = Bulk("INSERT INTO leaves (id, entries) VALUES (?, ?)")
LEAF = "SELECT entries FROM leaves WHERE id = ?"
SOME_LEAVES = "SELECT entries FROM leaves WHERE id BETWEEN ? AND ? ORDER BY id"
NEXT_LEAF = "SELECT min(id) FROM leaves WHERE id >= ?"
REMOVE_LEAVES = """
DELETE FROM leaves WHERE id IN (SELECT id FROM leaves WHERE id >= ? AND id < ? LIMIT ?)
"""
ADD_RUN = """
INSERT INTO runs (id, level, keys, after, upto, fences, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
REMOVE_RUN = "DELETE FROM runs WHERE id = ?"
RUNS = "SELECT id, level, keys, after, upto, fences, checksum FROM runs"


@dataclass(eq=False)
class Run:
    """One run, whole on disk or while it is written, leaf after leaf.

    It has the keys of all events whose seq is more than `after`, up to and with `upto`.
    """

    id: int
    level: int = 0
    after: int = 0
    upto: int = 0
    keys: int = 0
    fences: "array[int]" = field(default_factory=lambda: array("Q"))

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the event that holds the key. Raises StoreError for a damaged leaf."""
        beginning = _beginning(key)
        first = max(bisect_left(self.fences, beginning) - 1, 0)
        for number in range(first, bisect_right(self.fences, beginning)):
            with _readable():
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
        found = _beginnings(self._leaves(db, first, last), ENTRY)
        return found[bisect_left(found, _bytes(low)) : bisect_left(found, _bytes(high))]

    def some_keys(self, db: sqlite3.Connection, first: int, leaves: int) -> list[bytes]:
        """The keys in so many leaves, from number `first` on, or in those that there are."""
        return _beginnings(self._some(db, first, leaves), KEY)

    def check(self, db: sqlite3.Connection) -> None:
        """Raise StoreError if a leaf is damaged or missing."""
        for first in range(0, len(self.fences), LEAVES_AT_ONCE):
            self._some(db, first, LEAVES_AT_ONCE)

    def write(self, db: sqlite3.Connection, entries: Sequence[bytes]) -> None:
        """Add leaves with these entries, which are in order and follow those that it has."""
        leaves = [entries[at : at + PER_LEAF] for at in range(0, len(entries), PER_LEAF)]
        first = len(self.fences)
        self.fences.extend(_beginning(leaf[0]) for leaf in leaves)
        self.keys += len(entries)
        ids = range(self._id(first), self._id(first + len(leaves)))
        ADD_LEAVES(db, list(zip(ids, map(_summed, leaves), strict=True)))

    def finish(self, db: sqlite3.Connection) -> None:
        """Make it one of the runs: it is whole."""
        numbers = self.id, self.level, self.keys, self.after, self.upto
        fences = _swapped(self.fences).tobytes()
        db.execute(ADD_RUN, (*numbers, fences, _sum(fences, numbers)))

    def remove(self, db: sqlite3.Connection) -> None:
        """Make it none of the runs; its leaves stay."""
        db.execute(REMOVE_RUN, (self.id,))

    def _some(self, db: sqlite3.Connection, first: int, leaves: int) -> list[bytes]:
        return self._leaves(db, first, min(first + leaves, len(self.fences)) - 1)

    def _leaves(self, db: sqlite3.Connection, first: int, last: int) -> list[bytes]:
        with _readable():
            rows = db.execute(SOME_LEAVES, (self._id(first), self._id(last))).fetchall()
        if len(rows) != last - first + 1:
            raise damaged()
        return [_sound(leaf) for (leaf,) in rows]

    def _id(self, number: int) -> int:
        return self.id * _LEAVES + number


class Compactor:
    """Writes runs and merges them, within the transactions that store events, a little in each."""

    def __init__(self, db: sqlite3.Connection, runs: Sequence[Run], left_alone: LeftAlone) -> None:
        """With the runs that the file has."""
        without_run = list(_left_over(db, runs))
        self._left_alone = left_alone
        self._merges: dict[int, Merge] = {}  # by the level of their runs
        self._replaced: list[Run] = []  # in the transaction that is under way
        self._leaves_of = [run for run in without_run if run not in left_alone.runs]
        self._last_run = max((*(run.id for run in runs), *without_run), default=0)
        self._due = 0  # keys to merge

    def write(self, db: sqlite3.Connection, entries: Sequence[bytes], after: int, upto: int) -> Run:
        """Make a run of entries that are in order."""
        run = Run(self._new_id(), 0, after, upto)
        run.write(db, entries)
        run.finish(db)
        return run

    def compact(
        self, db: sqlite3.Connection, runs: tuple[Run, ...], keys: int, *, pause: bool
    ) -> tuple[Run, ...]:
        """Merge runs, as much as so many new keys make necessary; the runs that there are then.

        No merge goes on while there is a pause: somebody reads the runs.
        """
        levels = len({run.level for run in runs})
        self._due += keys * (levels + 1)  # one a level is needed, but for the last
        while self._due >= AT_ONCE:
            self._due -= AT_ONCE
            if self._leaves_of and not self._remove_leaves(db, self._leaves_of[-1]):
                self._leaves_of.pop()
            if merge := None if pause else self._next_merge(runs):
                runs = self._step(db, merge, runs)
            elif not self._leaves_of:
                self._due = 0
        return runs

    def committed(self) -> None:
        """What was done is committed: now leaves may go that a reader before it looks for."""
        self._leaves_of += [run.id for run in self._replaced]
        self._replaced.clear()

    def _remove_leaves(self, db: sqlite3.Connection, run: int) -> bool:
        """Whether there may be more. Damage leaves them in their place."""
        try:
            return _remove_leaves(db, run)
        except StoreError as error:
            log.error("leaves of a run that has gone cannot be removed: %s", error)
            self._left_alone.runs.add(run)
            return False

    def _next_merge(self, runs: Sequence[Run]) -> "Merge | None":
        """The one of the smallest runs."""
        for level in sorted({run.level for run in runs} - self._left_alone.levels):
            if level in self._merges:
                return self._merges[level]
            alike = [run for run in runs if run.level == level]
            if len(alike) >= ALIKE:
                self._merges[level] = Merge(alike[-ALIKE:], self._new_id())
                return self._merges[level]
        return None

    def _step(
        self, db: sqlite3.Connection, merge: "Merge", runs: tuple[Run, ...]
    ) -> tuple[Run, ...]:
        """Damage is told, and no reason not to store events: the key that it hides is not new.

        But SQLite commits nothing after damage of its own, and the batch is to be sent again.
        """
        try:
            merge.step(db)
        except StoreError as error:
            log.error("keys are looked for in more and more runs: %s", error)
            self._left_alone.levels.add(merge.level)
            return runs
        if not merge.is_done:
            return runs
        del self._merges[merge.level]
        self._replaced += merge.runs
        place = runs.index(merge.runs[0])  # they follow each other
        return *runs[:place], merge.into, *runs[place + len(merge.runs) :]

    def _new_id(self) -> int:
        self._last_run += 1
        return self._last_run


class Merge:
    """One merge on its way. What it has written is none of the runs until it is done."""

    def __init__(self, runs: Sequence[Run], into: int) -> None:
        """Merge these, which follow each other, those of the newest events first."""
        self.runs = runs
        self.level = runs[0].level
        self.into = Run(into, self.level + 1, runs[-1].after, runs[0].upto)
        self.is_done = False
        keys = sum(run.keys for run in runs)
        self._slices = max(1, keys // AT_ONCE)
        self._slice = 0
        self._rest: list[bytes] = []  # too few for a leaf

    def step(self, db: sqlite3.Connection) -> None:
        """Merge the next slice; with the last one the runs are replaced. Raises StoreError."""
        low, high = (END * at // self._slices for at in (self._slice, self._slice + 1))
        found: list[bytes] = []
        for run in self.runs:
            found += run.between(db, low, high)
        found.sort()
        self._slice += 1
        self.is_done = self._slice == self._slices
        entries = self._rest + found
        whole = len(entries) if self.is_done else len(entries) // PER_LEAF * PER_LEAF
        self.into.write(db, entries[:whole])
        self._rest = entries[whole:]
        if self.is_done:
            if self.into.keys != sum(run.keys for run in self.runs):
                raise damaged()
            self.into.finish(db)
            for run in self.runs:
                run.remove(db)


def kept(db: sqlite3.Connection) -> list[Run]:
    """The runs that the file has, those of the newest events first. Raises StoreError.

    Were one of them missing, its keys would be new: so each begins where another one has ended.
    """
    found = [_read(*row) for row in db.execute(RUNS)]
    found.sort(key=attrgetter("upto"), reverse=True)
    ends = [run.upto for run in found[1:]] + [0] * bool(found)
    if [run.after for run in found] != ends:
        raise damaged()
    return found


def _read(*row: Any) -> Run:
    number, level, keys, after, upto, fences, checksum = row
    if not isinstance(fences, bytes) or checksum != _sum(fences, row[:5]):
        raise damaged()
    return Run(number, level, after, upto, keys, _swapped(array("Q", fences)))


def _left_over(db: sqlite3.Connection, runs: Iterable[Run]) -> Iterator[int]:
    """The ids of those that were not finished, or not removed to the end: they have only leaves."""
    known = {run.id for run in runs}
    leaf = 0
    while (found := db.execute(NEXT_LEAF, (leaf,)).fetchone()[0]) is not None:
        run = found // _LEAVES
        leaf = (run + 1) * _LEAVES
        if run not in known:
            yield run


def _remove_leaves(db: sqlite3.Connection, run: int) -> bool:
    """Remove some of that run's leaves; whether there may be more. Raises StoreError."""
    bounds = run * _LEAVES, (run + 1) * _LEAVES
    with _readable():
        return db.execute(REMOVE_LEAVES, (*bounds, LEAVES_AT_ONCE)).rowcount == LEAVES_AT_ONCE


def entries(seqs: Mapping[bytes, int]) -> list[bytes]:
    """Keys with their seqs as they stand in leaves: in the order of the keys."""
    return sorted(map(_ENTRY.pack, seqs, seqs.values()))


def _beginnings(leaves: Iterable[bytes], length: int) -> list[bytes]:
    """So many bytes of each entry, in order."""
    cut = _CUTS[length]
    found: list[bytes] = []
    for leaf in leaves:
        if len(leaf) == cut.size:  # nearly every one
            found += cut.unpack(leaf)
        else:
            found += [leaf[at : at + length] for at in range(0, len(leaf), ENTRY)]
    return found


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
        raise damaged()
    return entries


def _sum(fences: bytes, numbers: tuple[int, ...]) -> int:
    return zlib.crc32(repr(numbers).encode(), zlib.crc32(fences))


def damaged() -> StoreError:
    """The index is not as it was written."""
    return StoreError("the index of keys is damaged; docs/reliability.md tells how to make it anew")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        with reading():
            yield
    except Unreadable as error:
        raise damaged() from error


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
