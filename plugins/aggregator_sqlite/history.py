"""What came again under the key of an event: by source, and by content where it clashed."""

import sqlite3
from collections.abc import Sequence

import msgspec

from aggregator.store import CLASHES, Clashes, History, Sighting, Sightings

ADD_SIGHTING = """
INSERT INTO sightings (seq, source, duplicates, conflicts, last_at, first_at)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (seq, source) DO UPDATE SET
    duplicates = duplicates + excluded.duplicates,
    conflicts = conflicts + excluded.conflicts,
    last_at = max(last_at, excluded.last_at),
    first_at = min(coalesce(first_at, last_at), excluded.first_at)
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
SELECT source, duplicates, conflicts, coalesce(first_at, last_at) AS since, last_at
FROM (SELECT * FROM sightings WHERE seq = :seq LIMIT :scanned)
ORDER BY since, source LIMIT :most
"""
CLASHES_OF = """
SELECT digest, differences, source, times, first_at, last_at FROM clashes
WHERE seq = ? ORDER BY first_at, digest LIMIT ?
"""

_SCANNED = 20_000  # sources; an event that came from more is told by the first of them in order


def record(db: sqlite3.Connection, sightings: Sequence[Sighting]) -> None:
    """Add to the sightings of each event by source, and remember what clashed."""
    db.executemany(ADD_SIGHTING, map(_counted, sightings))
    db.executemany(ADD_CLASH, (_clash(seen) for seen in sightings if seen.clash))


def read(db: sqlite3.Connection, seq: int, limit: int) -> History:
    """The earliest of both."""
    wanted = {"seq": seq, "scanned": _SCANNED, "most": limit}
    sightings = [Sightings(*row) for row in db.execute(SIGHTINGS, wanted)]
    clashes = [
        Clashes(digest, _pointers(differences), *seen)
        for digest, differences, *seen in db.execute(CLASHES_OF, (seq, limit))
    ]
    return History(sightings, clashes)


def _counted(seen: Sighting) -> tuple[object, ...]:
    is_conflict = seen.clash is not None
    return seen.seq, seen.source, int(not is_conflict), int(is_conflict), seen.seen_at, seen.seen_at


def _clash(seen: Sighting) -> dict[str, object]:
    assert seen.clash
    return {
        "seq": seen.seq,
        "digest": seen.clash.digest,
        "differences": msgspec.json.encode(seen.clash.differences).decode(),
        "source": seen.source,
        "seen_at": seen.seen_at,
        "most": CLASHES,
    }


def _pointers(differences: str) -> tuple[str, ...]:
    """None where a flipped bit has made them unreadable."""
    try:
        return msgspec.json.decode(differences, type=tuple[str, ...])
    except msgspec.MsgspecError:
        return ()
