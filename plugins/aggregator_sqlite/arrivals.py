"""Finds events by the time of their arrival without looking at all of them.

Arrival times grow with seq, but not always: a slow body is stored after a quick one that came
later, and a clock may be set back. So each block keeps two numbers about all events up to its end,
which can only grow: the newest arrival, and how far any event came behind the newest one before it.
Since they are in order, a binary search among the blocks makes bounds of them:

- Before the first block where the newest arrival reaches `since`, nothing came since then, whatever
  the clock did.
- What came before `until` came when the newest arrival was less than `until` and the farthest that
  any event came behind. So it stands before the first block that reaches this sum.

A clock that was ahead for a while makes the bounds wide, and never wrong: each event between them
is still looked at. A flipped bit in a number could hide events: where their checksum differs, there
are no bounds.
"""

import sqlite3
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from aggregator.event import Event
from aggregator_sqlite import blocks
from aggregator_sqlite.connection import UnreadableRow, detecting_corruption

BEYOND = 2**63 - 1
"""A seq after all."""
_UNKNOWN = 2**62  # microseconds: later than any arrival

LAST = """
SELECT first_seq, newest_at, behind, arrivals_checksum FROM blocks
WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT ?
"""

_SUMMED = struct.Struct("<qqq")

Times = tuple[int, int]
"""The earliest and the latest arrival in a block."""


class Bounds(NamedTuple):
    """The seqs to look at: from `first` on, and before `end`."""

    first: int = 0
    end: int = BEYOND


class _InDoubt(Exception):
    """The numbers of a block are damaged."""


class _Arrivals(NamedTuple):
    """About all events up to the end of a block, in microseconds; as `schema.py` describes it."""

    newest_at: int = 0
    behind: int = 0

    def and_then(self, earliest: int, latest: int) -> "_Arrivals":
        """About these and a further block, whose events are taken for as far behind as any is."""
        newest = max(self.newest_at, latest)
        return _Arrivals(newest, max(self.behind, newest - earliest))


def times_of(events: Sequence[Event]) -> Times:
    """The times of the events of one block."""
    received = [event.received_at for event in events]
    return min(received), max(received)


def add_blocks(db: sqlite3.Connection, rows: Sequence[tuple[blocks.Row, Times]]) -> None:
    """Store blocks after all that there are."""
    try:
        _, so_far = _at(db, BEYOND) or (0, _Arrivals())
    except _InDoubt:
        so_far = _Arrivals(_UNKNOWN, _UNKNOWN)  # too wide from here on, but hides nothing
    added = []
    for row, times in rows:
        so_far = so_far.and_then(*times)
        added.append((*row, *so_far, _checksum(row[0], so_far)))
    blocks.ADD_BLOCKS(db, added)


def bounds(db: sqlite3.Connection, since: int | None, until: int | None) -> Bounds:
    """Between which seqs all events are that came since then and before that."""
    try:
        return Bounds(
            0 if since is None else _first_reaching(db, since),
            BEYOND if until is None else _end(db, until),
        )
    except _InDoubt:
        return Bounds()


def are_whole(db: sqlite3.Connection, first: int) -> bool:
    """Whether the numbers of the block that begins there are as they were written."""
    try:
        found = _at(db, first)
    except _InDoubt:
        return False
    return found is not None and found[0] == first


def _end(db: sqlite3.Connection, until: int) -> int:
    found = _at(db, BEYOND)
    return BEYOND if found is None else _first_reaching(db, until + found[1].behind)


def _first_reaching(db: sqlite3.Connection, time: int) -> int:
    """The first seq of the first block where the newest arrival is as late as that."""
    found = _at(db, BEYOND)
    if found is None or found[1].newest_at < time:
        return BEYOND
    low, high = 0, found[0]
    while low < high:
        middle = (low + high) // 2
        found = _at(db, middle)
        if found and found[1].newest_at >= time:
            high = found[0]
        else:
            low = middle + 1
    _check_first(db, high, time)
    return high


def _check_first(db: sqlite3.Connection, first: int, time: int) -> None:
    """Raise _InDoubt unless the block before that one is intact, and reaches the time not yet.

    A row whose own number was damaged has its place still, and leads SQLite's search astray: asked
    for what stands before a row, SQLite takes the one that does.
    """
    found = [_intact(*row) for row in _last(db, first, 2)]
    if not found or found[0][0] != first or any(each.newest_at >= time for _, each in found[1:]):
        raise _InDoubt


def _at(db: sqlite3.Connection, seq: int) -> tuple[int, _Arrivals] | None:
    """The first seq of the block that has that seq or comes before it, and its numbers."""
    rows = _last(db, seq, 1)
    return _intact(*rows[0]) if rows else None


def _last(db: sqlite3.Connection, seq: int, most: int) -> list[Any]:
    """The rows of the last blocks that begin there or before, the later one first."""
    try:
        with detecting_corruption():
            return db.execute(LAST, (seq, most)).fetchall()
    except (UnreadableRow, sqlite3.OperationalError) as error:  # a number that is a text now, say
        raise _InDoubt from error


def _intact(first: int, newest_at: int, behind: int, checksum: int) -> tuple[int, _Arrivals]:
    arrivals = _Arrivals(newest_at, behind)
    try:
        is_intact = checksum == _checksum(first, arrivals)
    except struct.error:  # no integers any more
        is_intact = False
    if not is_intact:
        raise _InDoubt
    return first, arrivals


def _checksum(first: int, arrivals: _Arrivals) -> int:
    return zlib.crc32(_SUMMED.pack(first, *arrivals))
