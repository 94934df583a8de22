"""The index of keys on disk: sorted runs, as in a log-structured merge tree, and their compaction.

A run is a list of entries, key and seq, in the order of the keys. The name by which an event is
found besides its key is an entry too, inverted; several events may have the same. A run stands in
pages that are appended and never changed; each fills one page of the database. The first 8 bytes of
every page's first key, its *fence*, are held in memory, so that a lookup reads one page of a run,
seldom two.
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
ENTRY = KEY + 8  # key and seq
PER_PAGE = 168  # entries; with the checksum as many as fit into one page of the database
PAGES_AT_ONCE = 50  # read or removed; about as many keys as KEYS_PER_STEP
_ENTRY = struct.Struct(f">{KEY}sQ")
_CUTS = {size: struct.Struct(f"{size}s{ENTRY - size}x" * PER_PAGE) for size in (KEY, ENTRY)}
_CHECKSUM = 4
_INVERTED = bytes(reversed(range(256)))
_FENCE = 8
END = 2 ** (8 * _FENCE)  # more than any fence
RUNS_PER_LEVEL = 8  # so many of one level are merged into one of the next
KEYS_PER_STEP = 8_192  # merged at once, about
_MOST_PAGES = 2**24  # of a run: a page's id is the run's id and 24 bits of its number

ADD_PAGES = MultiRowStatement("INSERT INTO run_pages (id, entries) VALUES (?, ?)")
PAGE = "SELECT entries FROM run_pages WHERE id = ?"
SOME_PAGES = "SELECT entries FROM run_pages WHERE id BETWEEN ? AND ? ORDER BY id"
NEXT_PAGE = "SELECT min(id) FROM run_pages WHERE id >= ?"
REMOVE_PAGES = """
DELETE FROM run_pages WHERE id IN (SELECT id FROM run_pages WHERE id >= ? AND id < ? LIMIT ?)
"""
ADD_RUN = """
INSERT INTO runs (id, level, entries, names, after, upto, fences, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
REMOVE_RUN = "DELETE FROM runs WHERE id = ?"
RUNS = "SELECT id, level, entries, names, after, upto, fences, checksum FROM runs"

Named = tuple[bytes, int]
"""A name, and the seq of an event that is found by it."""


@dataclass(eq=False)
class Run:
    """Keys and names of all events with `after` < seq <= `upto`, on disk or being written."""

    id: int
    level: int = 0
    after: int = 0
    upto: int = 0
    entries: int = 0
    names: int = 0  # so many of the entries
    fences: "array[int]" = field(default_factory=lambda: array("Q"))

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the event that holds the key, if any. Raises StoreError for a damaged page."""
        return self.find_all(db, [key]).get(key)

    def find_all(self, db: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Those of the keys that events hold, with their seqs. The keys are in order.

        So each page is read once for all keys that may be in it. Raises StoreError for a damaged
        page.
        """
        found: dict[bytes, int] = {}
        page, at = b"", -1
        for key in keys:
            prefix = _prefix(key)
            # The last page whose fence is less, then those whose fence is the same.
            first = max(bisect_left(self.fences, prefix) - 1, 0)
            for number in range(first, bisect_right(self.fences, prefix)):
                if number != at:
                    page, at = self._page(db, number), number
                seq = _find(page, key)
                if seq is not None:
                    found[key] = seq
                    break
        return found

    def named(self, db: sqlite3.Connection, name: bytes) -> Iterator[int]:
        """The seqs of the events with that name, in order. Raises StoreError for a damaged page."""
        entry = name_entry(name)
        prefix = _prefix(entry)
        first = max(bisect_left(self.fences, prefix) - 1, 0)
        for number in range(first, bisect_right(self.fences, prefix)):
            page = self._page(db, number)
            for found in _prefixes([page], ENTRY) if entry in page else ():
                if found.startswith(entry):
                    yield int.from_bytes(found[KEY:])

    def between(self, db: sqlite3.Connection, low: int, high: int) -> list[bytes]:
        """The entries whose keys' first 8 bytes are at least `low` and less than `high`."""
        first = max(bisect_left(self.fences, low) - 1, 0)
        last = bisect_left(self.fences, high) - 1
        if last < first:
            return []
        found = _prefixes(self._pages(db, first, last), ENTRY)
        return found[
            bisect_left(found, _prefix_bytes(low)) : bisect_left(found, _prefix_bytes(high))
        ]

    def some_keys(self, db: sqlite3.Connection, first: int, pages: int) -> list[bytes]:
        """The keys in up to so many pages, from page number `first` on."""
        return _prefixes(self._some(db, first, pages), KEY)

    def some_entries(self, db: sqlite3.Connection, first: int, pages: int) -> list[bytes]:
        """The entries in up to so many pages, from page number `first` on."""
        return _prefixes(self._some(db, first, pages), ENTRY)

    def check(self, db: sqlite3.Connection) -> None:
        """Raise StoreError if a page is damaged or missing."""
        for first in range(0, len(self.fences), PAGES_AT_ONCE):
            self._some(db, first, PAGES_AT_ONCE)

    def write(self, db: sqlite3.Connection, entries: Sequence[bytes]) -> None:
        """Append pages with these entries, which are in order and follow those written before."""
        pages = [entries[at : at + PER_PAGE] for at in range(0, len(entries), PER_PAGE)]
        first = len(self.fences)
        self.fences.extend(_prefix(page[0]) for page in pages)
        self.entries += len(entries)
        ids = range(self._id(first), self._id(first + len(pages)))
        ADD_PAGES(db, list(zip(ids, map(_with_checksum, pages), strict=True)))

    def finish(self, db: sqlite3.Connection) -> None:
        """Enter it in the list of runs, once all its pages are written."""
        numbers = self.id, self.level, self.entries, self.names, self.after, self.upto
        fences = _byteswapped(self.fences).tobytes()
        db.execute(ADD_RUN, (*numbers, fences, _run_checksum(fences, numbers)))

    def remove(self, db: sqlite3.Connection) -> None:
        """Take it off the list of runs. Its pages are removed later: readers may be in them."""
        db.execute(REMOVE_RUN, (self.id,))

    def _some(self, db: sqlite3.Connection, first: int, pages: int) -> list[bytes]:
        return self._pages(db, first, min(first + pages, len(self.fences)) - 1)

    def _pages(self, db: sqlite3.Connection, first: int, last: int) -> list[bytes]:
        with _readable():
            rows = db.execute(SOME_PAGES, (self._id(first), self._id(last))).fetchall()
        if len(rows) != last - first + 1:
            raise damaged()
        return [_verified(page) for (page,) in rows]

    def _page(self, db: sqlite3.Connection, number: int) -> bytes:
        """The entries of that page. Raises StoreError if it is damaged."""
        with _readable():
            row = db.execute(PAGE, (self._id(number),)).fetchone()
        return _verified(row[0] if row else b"")

    def _id(self, number: int) -> int:
        return self.id * _MOST_PAGES + number


class Compactor:
    """Writes runs and compacts them, a step at a time, in the transactions that store events."""

    def __init__(
        self, db: sqlite3.Connection, runs: Sequence[Run], unreadable: UnreadableRows
    ) -> None:
        """Begin with the runs that are in the file."""
        orphans = list(_orphans(db, runs))
        self._unreadable = unreadable
        self._compactions: dict[int, Compaction] = {}  # under way, by level
        self._replaced: list[Run] = []  # in the current transaction
        self._obsolete = [run for run in orphans if run not in unreadable.runs]
        self._last_run = max((*(run.id for run in runs), *orphans), default=0)
        self._due = 0  # entries to merge

    def write(
        self, db: sqlite3.Connection, entries: Sequence[bytes], names: int, after: int, upto: int
    ) -> Run:
        """Write a run of sorted entries, those of the events with `after` < seq <= `upto`."""
        run = Run(self._new_id(), 0, after, upto, names=names)
        run.write(db, entries)
        run.finish(db)
        return run

    def compact(
        self, db: sqlite3.Connection, runs: tuple[Run, ...], entries: int, *, pause: bool
    ) -> tuple[Run, ...]:
        """Do the share of compaction that so many new entries make due; return the runs after it.

        Nothing is merged during a pause: the filter's warm-up is reading the runs.
        """
        levels = len({run.level for run in runs})
        # Each entry is merged once a level, so that with one level more compaction never falls
        # behind. Twice as much had large ones done early, all at once, which slowed everybody down.
        self._due += entries * (levels + 1)
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
        """Let the pages of replaced runs be removed, now that their replacement is committed.

        Before that, readers still use the replaced runs.
        """
        self._obsolete += [run.id for run in self._replaced]
        self._replaced.clear()

    def _remove_pages(self, db: sqlite3.Connection, run: int) -> bool:
        """Remove some pages of that run; whether there may be more. Damaged ones stay."""
        try:
            return _remove_pages(db, run)
        except StoreError as error:
            log.error("pages of a replaced run cannot be removed: %s", error)
            self._unreadable.runs.add(run)
            return False

    def _next_compaction(self, runs: Sequence[Run]) -> "Compaction | None":
        """The compaction on the lowest level that has one under way or due."""
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
        """Do one step of the compaction; return the runs after it.

        A damaged page is logged and ends compaction on its level; events are still stored, because
        a lookup that meets the page fails instead of calling a key new. Where SQLite itself found
        the damage, it commits nothing more in this transaction, and the batch must be sent again.
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
        place = runs.index(merge.runs[0])  # the others follow it
        return *runs[:place], merge.into, *runs[place + len(merge.runs) :]

    def _new_id(self) -> int:
        self._last_run += 1
        return self._last_run


class Compaction:
    """Runs being merged into one of the next level, which is not used until it is complete.

    Keys are hashes, so equal slices of their range hold about equally many of them.
    """

    def __init__(self, runs: Sequence[Run], into: int) -> None:
        """Merge these adjacent runs, newest events first, into a new run with that id."""
        self.runs = runs
        self.level = runs[0].level
        names = sum(run.names for run in runs)
        self.into = Run(into, self.level + 1, runs[-1].after, runs[0].upto, names=names)
        self.is_done = False
        entries = sum(run.entries for run in runs)
        self._slices = max(1, entries // KEYS_PER_STEP)
        self._slice = 0
        self._rest: list[bytes] = []  # entries too few for a page

    def step(self, db: sqlite3.Connection) -> None:
        """Merge the next slice; the last one replaces the runs. Raises StoreError for damage."""
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
            if self.into.entries != sum(run.entries for run in self.runs):
                raise damaged()
            self.into.finish(db)
            for run in self.runs:
                run.remove(db)


def load_runs(db: sqlite3.Connection) -> list[Run]:
    """The runs in the file, newest events first. Raises StoreError if they are damaged.

    Each must begin where the one before it ends: the keys of a missing run would pass for new.
    """
    found = [_read(*row) for row in db.execute(RUNS)]
    found.sort(key=attrgetter("upto"), reverse=True)
    ends = [run.upto for run in found[1:]] + [0] * bool(found)
    if [run.after for run in found] != ends:
        raise damaged()
    return found


def _read(*row: Any) -> Run:
    number, level, entries, names, after, upto, fences, checksum = row
    if not isinstance(fences, bytes) or checksum != _run_checksum(fences, row[:6]):
        raise damaged()
    return Run(number, level, after, upto, entries, names, _byteswapped(array("Q", fences)))


def _orphans(db: sqlite3.Connection, runs: Iterable[Run]) -> Iterator[int]:
    """Ids of runs of which only pages are left: not finished, or not entirely removed."""
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


def sorted_entries(seqs: Mapping[bytes, int], names: Iterable[Named] = ()) -> list[bytes]:
    """Keys and names, with their seqs, as entries of a run, in order."""
    entries = [*map(_ENTRY.pack, seqs, seqs.values())]
    entries += [_ENTRY.pack(name_entry(name), seq) for name, seq in names]
    return sorted(entries)


def name_entry(name: bytes) -> bytes:
    """A name as it stands among keys: inverted, for it may be the key of another event."""
    return name.translate(_INVERTED)


def _prefixes(pages: Iterable[bytes], length: int) -> list[bytes]:
    """The first bytes of each entry, so many, in order."""
    cut = _CUTS[length]
    found: list[bytes] = []
    for page in pages:
        if len(page) == cut.size:  # full, as nearly every page is: one call instead of 168
            found += cut.unpack(page)
        else:
            found += [page[at : at + length] for at in range(0, len(page), ENTRY)]
    return found


def _find(page: bytes, key: bytes) -> int | None:
    place = page.find(key)
    while place % ENTRY and place > 0:
        place = page.find(key, place + 1)
    return None if place < 0 else int.from_bytes(page[place + KEY : place + ENTRY])


def _with_checksum(entries: Sequence[bytes]) -> bytes:
    page = b"".join(entries)
    return page + zlib.crc32(page).to_bytes(_CHECKSUM)


def _verified(page: bytes) -> bytes:
    """The entries of a page. Raises StoreError if a bit has flipped: a key it hides looks new."""
    entries = page[:-_CHECKSUM]
    if zlib.crc32(entries).to_bytes(_CHECKSUM) != page[-_CHECKSUM:]:
        raise damaged()
    return entries


def _run_checksum(fences: bytes, numbers: tuple[int, ...]) -> int:
    return zlib.crc32(repr(numbers).encode(), zlib.crc32(fences))


def damaged() -> StoreError:
    """The error to raise where the index is not as it was written."""
    return StoreError("the index of keys is damaged; docs/reliability.md tells how to make it anew")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        with detecting_corruption():
            yield
    except UnreadableRow as error:
        raise damaged() from error


def _prefix(key: bytes) -> int:
    return int.from_bytes(key[:_FENCE])


def _prefix_bytes(prefix: int) -> bytes:
    return prefix.to_bytes(_FENCE) if prefix < END else b"\xff" * (ENTRY + 1)


def _byteswapped(fences: "array[int]") -> "array[int]":
    """From the byte order of this machine to big-endian, as stored, or back."""
    swapped = array("Q", fences)
    if sys.byteorder == "little":
        swapped.byteswap()
    return swapped
