"""The quarantine. `counters` has the number and bytes of its entries, updated with them."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from aggregator.store import (
    MOST_EVICTED,
    PAGE_BYTES,
    Quarantined,
    QuarantinePage,
    QuarantineQuery,
    QuarantineReason,
)
from aggregator_sqlite import sums
from aggregator_sqlite.sums import COUNTERS

SCANNED = 20_000  # entries that one page examines at most
_LARGEST = 2**63 - 1  # id

TAKE_IDS = COUNTERS.into(
    """
UPDATE counters SET
    last_entry = last_entry + :entries,
    quarantined = quarantined + :entries,
    quarantine_bytes = quarantine_bytes + :size,
    checksum = checksum + $more
RETURNING last_entry
""",
    more={"last_entry": ":entries", "quarantined": ":entries", "quarantine_bytes": ":size"},
)
ADD_ENTRY = """
INSERT INTO quarantine (id, kept_at, size, reason, submission, topic, event_id, is_cloud_event,
    headers, detail, body, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
REMOVE_ENTRY = "DELETE FROM quarantine WHERE id = ? RETURNING size"
COUNT_REMOVED = COUNTERS.into(
    """
UPDATE counters SET
    quarantined = quarantined - :entries,
    quarantine_bytes = quarantine_bytes - :size,
    evicted = evicted + :evicted,
    checksum = checksum + $more
""",
    more={"quarantined": "-:entries", "quarantine_bytes": "-:size", "evicted": ":evicted"},
)
FILLED = "SELECT quarantined, quarantine_bytes FROM counters"
KEPT_BEFORE = "SELECT id FROM quarantine WHERE kept_at < ? ORDER BY kept_at LIMIT ?"
OLDEST = "SELECT id, size FROM quarantine ORDER BY id LIMIT ?"
ENTRIES = """
SELECT id, topic, reason, submission, kept_at FROM quarantine
WHERE id > ? ORDER BY id LIMIT ?
"""
ENTRY = """
SELECT id, kept_at, size, reason, submission, topic, event_id, is_cloud_event,
    CAST(headers AS BLOB), CAST(detail AS BLOB), CAST(body AS BLOB), checksum
FROM quarantine WHERE id = ?
"""


def add(db: sqlite3.Connection, entries: Sequence[Quarantined]) -> None:
    """Add these, under the next ids."""
    size = sum(entry.size for entry in entries)
    taken = {"entries": len(entries), "size": size}
    last = db.execute(TAKE_IDS, taken).fetchone()[0]
    rows = map(_row, range(last - len(entries) + 1, last + 1), entries)
    db.executemany(ADD_ENTRY, rows)


def drop(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Remove these; an id that is not there is passed over."""
    _remove(db, [number for number in ids if 0 < number <= _LARGEST], is_eviction=False)


def evict(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove what is too old, then the oldest beyond `most` bytes; how many were removed."""
    if db.execute(FILLED).fetchone()[0] == 0:
        return 0
    old = [number for (number,) in db.execute(KEPT_BEFORE, (before, MOST_EVICTED))]
    evicted = _remove(db, old, is_eviction=True)
    size = db.execute(FILLED).fetchone()[1]
    excess = list(_oldest(db, size - most, MOST_EVICTED - evicted))
    return evicted + _remove(db, excess, is_eviction=True)


def page(db: sqlite3.Connection, query: QuarantineQuery) -> QuarantinePage:
    """One page of the entries that match."""
    ids, after = _matching(db, query)
    entries: list[Quarantined] = []
    size = 0
    for number in ids:
        if size >= PAGE_BYTES:
            return QuarantinePage(entries, entries[-1].id)
        row = db.execute(ENTRY, (number,)).fetchone()
        if row:
            entries.append(_entry(row))
            size += entries[-1].size
    return QuarantinePage(entries, after)


def is_whole(row: Sequence[object]) -> bool:
    """Whether a row, as ENTRY reads it, is as it was written."""
    return row[-1] == sums.over(*row[:-1])


def _remove(db: sqlite3.Connection, ids: Sequence[int], *, is_eviction: bool) -> int:
    if not ids:
        return 0
    found = (db.execute(REMOVE_ENTRY, (number,)).fetchall() for number in ids)
    sizes = [rows[0][0] for rows in found if rows]
    removed = len(sizes)
    evicted = removed if is_eviction else 0
    db.execute(COUNT_REMOVED, {"entries": removed, "size": sum(sizes), "evicted": evicted})
    return removed


def _oldest(db: sqlite3.Connection, excess: int, most: int) -> Iterator[int]:
    """The ids of the oldest entries that have `excess` bytes together; at most so many."""
    if excess <= 0:
        return
    with closing(db.execute(OLDEST, (most,))) as rows:
        for number, size in rows:
            yield number
            excess -= size
            if excess <= 0:
                return


def _matching(db: sqlite3.Connection, query: QuarantineQuery) -> tuple[list[int], int | None]:
    """The ids of a page, and the id to go on after, None at the end."""
    ids: list[int] = []
    looked_at = 0
    with closing(db.execute(ENTRIES, _range(query))) as rows:
        for row in rows:
            if len(ids) == query.limit:
                return ids, ids[-1]
            number, topic, reason, submission, kept_at = row
            looked_at += 1
            if query.matches(number, topic, _REASONS.get(reason), submission, kept_at):
                ids.append(number)
    return ids, number if looked_at == SCANNED else None


def _range(query: QuarantineQuery) -> tuple[int, int]:
    """After which id to look, and at how many entries."""
    if query.id is None:
        return min(query.after, _LARGEST), SCANNED
    return min(max(query.after, query.id - 1), _LARGEST), 1


def _row(number: int, entry: Quarantined) -> tuple[object, ...]:
    row = (
        number,
        entry.kept_at,
        entry.size,
        entry.reason.value,
        entry.submission,
        entry.topic,
        entry.event_id,
        int(entry.is_cloud_event),
        _encoded(entry.headers),
        entry.detail,
        entry.body,
    )
    return (*row, sums.over(*row))


def _entry(row: tuple[Any, ...]) -> Quarantined:
    number, kept_at, _, reason, submission, topic, event_id, is_cloud_event, *texts, _ = row
    headers, detail, body = texts
    return Quarantined(
        number,
        kept_at,
        _REASONS.get(reason, QuarantineReason.FAILED),
        submission,
        topic,
        event_id,
        detail,
        bool(is_cloud_event),
        _headers(headers),
        body,
        is_damaged=not is_whole(row),
    )


_REASONS = {reason.value: reason for reason in QuarantineReason}


def _encoded(headers: dict[str, str]) -> bytes:
    """As JSON. Bytes of a header that are not UTF-8 are surrogates in the text."""
    return json.dumps(headers, ensure_ascii=False).encode(errors="surrogatepass")


def _headers(text: bytes) -> dict[str, str]:
    """From JSON; none where a flipped bit has made them unreadable."""
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        return {}
