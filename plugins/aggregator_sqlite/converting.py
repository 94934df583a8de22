"""Brings events that an older release has stored, a row each, into blocks.

Part by part, so that a start that is stopped on the way goes on from there next time.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Raw

from aggregator.core.identity import PayloadKind
from aggregator.errors import StoreError
from aggregator.event import Event
from aggregator.store import PAGE_BYTES
from aggregator_sqlite import writing
from aggregator_sqlite.atomic import atomic
from aggregator_sqlite.blocks import DIGEST
from aggregator_sqlite.prepared import Prepared
from aggregator_sqlite.row import Unreadable, row_at
from aggregator_sqlite.runs import KEY
from aggregator_sqlite.schema import has_old_events, payload_kind_of

log = logging.getLogger(__name__)

AT_ONCE = 20_000  # events

OLDEST = "SELECT seq FROM old_events ORDER BY seq LIMIT ?"
ROW = """
SELECT CAST(coalesce(received_at, 0) AS INTEGER), CAST(coalesce(key, '') AS BLOB),
    CAST(coalesce(digest, '') AS BLOB), coalesce(topics.name, ''),
    CAST(coalesce(event_id, '') AS TEXT), CAST(timestamp AS TEXT),
    CAST(coalesce(source, '') AS TEXT), CAST(payload AS BLOB), form, CAST(attributes AS BLOB),
    CAST(time AS INTEGER)
FROM old_events LEFT JOIN topics ON topics.id = topic_id WHERE seq = ?
"""
REMOVE = "DELETE FROM old_events WHERE seq <= ?"
DROP = "DROP TABLE old_events"


def convert_some(db: sqlite3.Connection) -> bool:
    """Bring some more into blocks, the oldest ones first; whether there may be more."""
    if not has_old_events(db):
        return False
    last, found = _some(db)
    if not last:
        with atomic(db):
            db.execute(DROP)
        return False
    with atomic(db):
        for first, events in _following(found):
            writing.store(db, Prepared.of(first, events))
        db.execute(REMOVE, (last,))
    log.info("the events of an older release are converted, up to event %d", last)
    return True


def _some(db: sqlite3.Connection) -> tuple[int, list[tuple[int, Event]]]:
    """The oldest ones with their seqs, and up to which seq these are all that can be read.

    What cannot is left out, which is logged. Raises StoreError where SQLite finds rows no more.
    """
    found: list[tuple[int, Event]] = []
    size = last = 0
    with closing(db.execute(OLDEST, (AT_ONCE,))) as seqs:
        for (seq,) in seqs:
            if seq <= last:
                raise StoreError(f"the rows of an older release are out of order at event {seq}")
            last = seq
            event = _event(db, seq)
            if event is None:
                log.error("event %d of an older release cannot be read, and is left out", seq)
                continue
            found.append((seq, event))
            size += len(event.payload) + len(event.attributes)
            size += len(event.topic) + len(event.event_id) + len(event.source)
            if size >= PAGE_BYTES:
                break
    return last, found


def _event(db: sqlite3.Connection, seq: int) -> Event | None:
    try:
        row = row_at(db, ROW, seq)
    except Unreadable:
        return None
    if row is None:
        raise StoreError(f"the row of event {seq} of an older release is not where it belongs")
    return _read(*row)


def _following(found: Sequence[tuple[int, Event]]) -> Iterator[tuple[int, list[Event]]]:
    """The first seq of events that follow each other, and these: some may be gone between them."""
    for _, group in groupby(enumerate(found), lambda numbered: numbered[1][0] - numbered[0]):
        some = [one for _, one in group]
        yield some[0][0], [event for _, event in some]


def _read(received_at: int, key: bytes, digest: bytes, *members: Any) -> Event:
    """The event, whatever a flipped bit has made of its row.

    One whose payload is kept no more is as one of JSON with an empty one.
    """
    topic, event_id, timestamp, source, payload, code, attributes, time = members
    return Event(
        index=0,
        submission="",
        received_at=max(received_at, 0),
        topic=topic,
        event_id=event_id,
        timestamp=timestamp or "",
        source=source,
        payload=payload or b"",
        key=key[:KEY].ljust(KEY, b"\0"),
        digest=digest[:DIGEST].ljust(DIGEST, b"\0"),
        payload_kind=PayloadKind.JSON if payload is None else payload_kind_of(code),
        attributes=attributes if attributes and _is_object(attributes) else b"",
        known_timestamp_us=time,
    )


def _is_object(attributes: bytes) -> bool:
    """What is none would make the event's other members unreadable too."""
    try:
        msgspec.json.decode(attributes, type=dict[str, Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True
