"""Runs: keys in order, and the seq of the event that holds each, in pages that are never changed.

A page fills a page of the database. Where a key can be is known without reading: of each run the
beginnings of its pages are held in memory, 8 bytes a page.
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
from aggregator_sqlite.connection import (
    MultiRowStatement,
    UnreadableRow,
    UnreadableRows,
    detecting_corruption,
)

log = logging.getLogger(__name__)

KEY = 16  # bytes
ENTRY = KEY + 8
PER_PAGE = 168  # entries; with its checksum a page is as large as a row in a page can be
PAGES_AT_ONCE = 50
"""About as many keys as are merged at once."""
_ENTRY = struct.Struct(f">{KEY}sQ")
_CUTS = {size: struct.Struct(f"{size}s{ENTRY - size}x" * PER_PAGE) for size in (KEY, ENTRY)}
_SUM = 4
_FENCE = 8
END = 2 ** (8 * _FENCE)
"""More than the beginning of any key."""
RUNS_PER_LEVEL = 8  # runs that are merged into one
KEYS_PER_STEP = 8_192  # keys, about: keys are hashes, so a slice of them holds its share
_MOST_PAGES = 2**24  # the most that a run can have
ADD_PAGES = MultiRowStatement("INSERT INTO run_pages (id, entries) VALUES (?, ?)")
PAGE = "SELECT entries FROM run_pages WHERE id = ?"
SOME_PAGES = "SELECT entries FROM run_pages WHERE id BETWEEN ? AND ? ORDER BY id"
NEXT_PAGE = "SELECT min(id) FROM run_pages WHERE id >= ?"
REMOVE_PAGES = """
DELETE FROM run_pages WHERE id IN (SELECT id FROM run_pages WHERE id >= ? AND id < ? LIMIT ?)
"""
ADD_RUN = """
INSERT INTO runs (id, level, keys, after, upto, fences, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
REMOVE_RUN = "DELETE FROM runs WHERE id = ?"
RUNS = "SELECT id, level, keys, after, upto, fences, checksum FROM runs"


@dataclass(eq=False)
class Run:
    """One run, whole on disk or while it is written, page after page.

    It has the keys of all events whose seq is more than `after`, up to and with `upto`.
    """

    id: int
    level: int = 0
    after: int = 0
    upto: int = 0
    keys: int = 0
    fences: "array[int]" = field(default_factory=lambda: array("Q"))

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the event that holds the key. Raises StoreError for a damaged page."""
        beginning = _beginning(key)
        first = max(bisect_left(self.fences, beginning) - 1, 0)
        for number in range(first, bisect_right(self.fences, beginning)):
            with _readable():
                page = db.execute(PAGE, (self._id(number),)).fetchone()
            seq = _find(_sound(page[0] if page else b""), key)
            if seq is not None:
                return seq
        return None

    def between(self, db: sqlite3.Connection, low: int, high: int) -> list[bytes]:
        """The entries of those keys whose beginning is `low` or more, and less than `high`."""
        first = max(bisect_left(self.fences, low) - 1, 0)
        last = bisect_left(self.fences, high) - 1
        if last < first:
            return []
        found = _beginnings(self._pages(db, first, last), ENTRY)
        return found[bisect_left(found, _bytes(low)) : bisect_left(found, _bytes(high))]

    def some_keys(self, db: sqlite3.Connection, first: int, pages: int) -> list[bytes]:
        """The keys in so many pages, from number `first` on, or in those that there are."""
        return _beginnings(self._some(db, first, pages), KEY)

    def check(self, db: sqlite3.Connection) -> None:
        """Raise StoreError if a page is damaged or missing."""
        for first in range(0, len(self.fences), PAGES_AT_ONCE):
            self._some(db, first, PAGES_AT_ONCE)

    def write(self, db: sqlite3.Connection, entries: Sequence[bytes]) -> None:
        """Add pages with these entries, which are in order and follow those that it has."""
        pages = [entries[at : at + PER_PAGE] for at in range(0, len(entries), PER_PAGE)]
        first = len(self.fences)
        self.fences.extend(_beginning(page[0]) for page in pages)
        self.keys += len(entries)
        ids = range(self._id(first), self._id(first + len(pages)))
        ADD_PAGES(db, list(zip(ids, map(_summed, pages), strict=True)))

    def finish(self, db: sqlite3.Connection) -> None:
        """Make it one of the runs: it is whole."""
        numbers = self.id, self.level, self.keys, self.after, self.upto
        fences = _swapped(self.fences).tobytes()
        db.execute(ADD_RUN, (*numbers, fences, _sum(fences, numbers)))

    def remove(self, db: sqlite3.Connection) -> None:
        """Make it none of the runs; its pages stay."""
        db.execute(REMOVE_RUN, (self.id,))

    def _some(self, db: sqlite3.Connection, first: int, pages: int) -> list[bytes]:
        return self._pages(db, first, min(first + pages, len(self.fences)) - 1)

    def _pages(self, db: sqlite3.Connection, first: int, last: int) -> list[bytes]:
        with _readable():
            rows = db.execute(SOME_PAGES, (self._id(first), self._id(last))).fetchall()
        if len(rows) != last - first + 1:
            raise damaged()
        return [_sound(page) for (page,) in rows]

    def _id(self, number: int) -> int:
        return self.id * _MOST_PAGES + number


class Compactor:
    """Writes runs and merges them, within the transactions that store events, a little in each."""

    def __init__(
        self, db: sqlite3.Connection, runs: Sequence[Run], unreadable: UnreadableRows
    ) -> None:
        """With the runs that the file has."""
        without_run = list(_left_over(db, runs))
        self._unreadable = unreadable
        self._compactions: dict[int, Compaction] = {}  # by the level of their runs
        self._replaced: list[Run] = []  # in the transaction that is under way
        self._obsolete = [run for run in without_run if run not in unreadable.runs]
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
        """Merge runs, as much as so many new keys make necessary; returns the runs after that.

        No merge goes on while there is a pause: somebody reads the runs.
        """
        levels = len({run.level for run in runs})
        self._due += keys * (levels + 1)  # one a level is needed, but for the last
        while self._due >= KEYS_PER_STEP:
            self._due -= KEYS_PER_STEP
            if self._obsolete and not self._remove_pages(db, self._obsolete[-1]):
                self._obsolete.pop()
            if merge := None if pause else self._next_compaction(runs):
                runs = self._step(db, merge, runs)
            elif not self._obsolete:
                self._due = 0
        return runs

    def committed(self) -> None:
        """What was done is committed: now pages may go that a reader before it looks for."""
        self._obsolete += [run.id for run in self._replaced]
        self._replaced.clear()

    def _remove_pages(self, db: sqlite3.Connection, run: int) -> bool:
        """Whether there may be more. Damage leaves them in their place."""
        try:
            return _remove_pages(db, run)
        except StoreError as error:
            log.error("pages of a run that has gone cannot be removed: %s", error)
            self._unreadable.runs.add(run)
            return False

    def _next_compaction(self, runs: Sequence[Run]) -> "Compaction | None":
        """The one of the smallest runs."""
        for level in sorted({run.level for run in runs} - self._unreadable.levels):
            if level in self._compactions:
                return self._compactions[level]
            alike = [run for run in runs if run.level == level]
            if len(alike) >= RUNS_PER_LEVEL:
                self._compactions[level] = Compaction(alike[-RUNS_PER_LEVEL:], self._new_id())
                return self._compactions[level]
        return None

    def _step(
        self, db: sqlite3.Connection, merge: "Compaction", runs: tuple[Run, ...]
    ) -> tuple[Run, ...]:
        """Damage is told, and no reason not to store events: the key that it hides is not new.

        But SQLite commits nothing after damage of its own, and the batch is to be sent again.
        """
        try:
            merge.step(db)
        except StoreError as error:
            log.error("keys are looked for in more and more runs: %s", error)
            self._unreadable.levels.add(merge.level)
            return runs
        if not merge.is_done:
            return runs
        del self._compactions[merge.level]
        self._replaced += merge.runs
        place = runs.index(merge.runs[0])  # they follow each other
        return *runs[:place], merge.into, *runs[place + len(merge.runs) :]

    def _new_id(self) -> int:
        self._last_run += 1
        return self._last_run


class Compaction:
    """One merge on its way. What it has written is none of the runs until it is done."""

    def __init__(self, runs: Sequence[Run], into: int) -> None:
        """Merge these, which follow each other, those of the newest events first."""
        self.runs = runs
        self.level = runs[0].level
        self.into = Run(into, self.level + 1, runs[-1].after, runs[0].upto)
        self.is_done = False
        keys = sum(run.keys for run in runs)
        self._slices = max(1, keys // KEYS_PER_STEP)
        self._slice = 0
        self._rest: list[bytes] = []  # too few for a page

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
        whole = len(entries) if self.is_done else len(entries) // PER_PAGE * PER_PAGE
        self.into.write(db, entries[:whole])
        self._rest = entries[whole:]
        if self.is_done:
            if self.into.keys != sum(run.keys for run in self.runs):
                raise damaged()
            self.into.finish(db)
            for run in self.runs:
                run.remove(db)


def load_runs(db: sqlite3.Connection) -> list[Run]:
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
    """The ids of those that were not finished, or not removed to the end: they have only pages."""
    known = {run.id for run in runs}
    page = 0
    while (found := db.execute(NEXT_PAGE, (page,)).fetchone()[0]) is not None:
        run = found // _MOST_PAGES
        page = (run + 1) * _MOST_PAGES
        if run not in known:
            yield run


def _remove_pages(db: sqlite3.Connection, run: int) -> bool:
    """Remove some of that run's pages; whether there may be more. Raises StoreError."""
    bounds = run * _MOST_PAGES, (run + 1) * _MOST_PAGES
    with _readable():
        return db.execute(REMOVE_PAGES, (*bounds, PAGES_AT_ONCE)).rowcount == PAGES_AT_ONCE


def sorted_entries(seqs: Mapping[bytes, int]) -> list[bytes]:
    """Keys with their seqs as they stand in pages: in the order of the keys."""
    return sorted(map(_ENTRY.pack, seqs, seqs.values()))


def _beginnings(pages: Iterable[bytes], length: int) -> list[bytes]:
    """So many bytes of each entry, in order."""
    cut = _CUTS[length]
    found: list[bytes] = []
    for page in pages:
        if len(page) == cut.size:  # nearly every one
            found += cut.unpack(page)
        else:
            found += [page[at : at + length] for at in range(0, len(page), ENTRY)]
    return found


def _find(page: bytes, key: bytes) -> int | None:
    place = page.find(key)
    while place % ENTRY and place > 0:
        place = page.find(key, place + 1)
    return None if place < 0 else int.from_bytes(page[place + KEY : place + ENTRY])


def _summed(entries: Sequence[bytes]) -> bytes:
    page = b"".join(entries)
    return page + zlib.crc32(page).to_bytes(_SUM)


def _sound(page: bytes) -> bytes:
    """A key that a flipped bit hides would be new, and its event stored twice."""
    entries = page[:-_SUM]
    if zlib.crc32(entries).to_bytes(_SUM) != page[-_SUM:]:
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
        with detecting_corruption():
            yield
    except UnreadableRow as error:
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
