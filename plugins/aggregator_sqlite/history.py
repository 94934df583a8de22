"""What came again under the key of an event: by source, and by content where it clashed."""

import sqlite3
from collections.abc import Sequence

import msgspec

from aggregator.store import MOST_CONFLICTS, ConflictStats, History, Redelivery, RedeliveryStats

ADD_SIGHTING = """
INSERT INTO sightings (seq, source, duplicates, conflicts, first_at, last_at)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (seq, source) DO UPDATE SET
    duplicates = duplicates + excluded.duplicates,
    conflicts = conflicts + excluded.conflicts,
    first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at)
"""
ADD_CLASH = """
INSERT INTO clashes (seq, digest, differences, source, times, first_at, last_at)
SELECT :seq, :digest, :differences, :source, 1, :seen_at, :seen_at
WHERE (SELECT count(*) FROM clashes WHERE seq = :seq) < :most
    OR EXISTS (SELECT 1 FROM clashes WHERE seq = :seq AND digest = :digest)
ON CONFLICT (seq, digest) DO UPDATE SET
    times = times + 1,
    first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at)
"""
SIGHTINGS = """
SELECT source, duplicates, conflicts, first_at, last_at
FROM (SELECT * FROM sightings WHERE seq = :seq LIMIT :scanned)
ORDER BY first_at, source LIMIT :most
"""
CLASHES_OF = """
SELECT digest, differences, source, times, first_at, last_at FROM clashes
WHERE seq = ? ORDER BY first_at, digest LIMIT ?
"""

_SCANNED = 20_000  # sources; an event that came from more is told by the first of them in order


def record(db: sqlite3.Connection, redeliveries: Sequence[Redelivery]) -> None:
    """Add to the sightings of each event by source, and remember what clashed."""
    db.executemany(ADD_SIGHTING, map(_counted, redeliveries))
    db.executemany(ADD_CLASH, (_clash(seen) for seen in redeliveries if seen.conflicting))


def read(db: sqlite3.Connection, seq: int, limit: int) -> History:
    """The earliest of both."""
    wanted = {"seq": seq, "scanned": _SCANNED, "most": limit}
    redeliveries = [RedeliveryStats(*row) for row in db.execute(SIGHTINGS, wanted)]
    clashes = [
        ConflictStats(digest, _pointers(differences), *seen)
        for digest, differences, *seen in db.execute(CLASHES_OF, (seq, limit))
    ]
    return History(redeliveries, clashes)


def _counted(seen: Redelivery) -> tuple[object, ...]:
    is_conflict = seen.conflicting is not None
    return seen.seq, seen.source, int(not is_conflict), int(is_conflict), seen.seen_at, seen.seen_at


def _clash(seen: Redelivery) -> dict[str, object]:
    assert seen.conflicting
    return {
        "seq": seen.seq,
        "digest": seen.conflicting.digest,
        "differences": msgspec.json.encode(seen.conflicting.differences).decode(),
        "source": seen.source,
        "seen_at": seen.seen_at,
        "most": MOST_CONFLICTS,
    }


def _pointers(differences: str) -> tuple[str, ...]:
    """None where a flipped bit has made them unreadable."""
    try:
        return msgspec.json.decode(differences, type=tuple[str, ...])
    except msgspec.MsgspecError:
        return ()
