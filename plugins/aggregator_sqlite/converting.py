"""Brings events that an older release has stored, a row each, into blocks.

Part by part, so that a start that is stopped on the way goes on from there next time.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

from aggregator.content import Form
from aggregator.event import Event
from aggregator.store import PAGE_BYTES
from aggregator_sqlite import writing
from aggregator_sqlite.atomic import atomic
from aggregator_sqlite.blocks import DIGEST
from aggregator_sqlite.runs import KEY
from aggregator_sqlite.schema import form_of, has_old_events

log = logging.getLogger(__name__)

AT_ONCE = 20_000  # events

OLDEST = """
SELECT seq, CAST(coalesce(received_at, 0) AS INTEGER), CAST(coalesce(key, '') AS BLOB),
    CAST(coalesce(digest, '') AS BLOB), coalesce(topics.name, ''),
    CAST(coalesce(event_id, '') AS TEXT), CAST(timestamp AS TEXT),
    CAST(coalesce(source, '') AS TEXT), CAST(payload AS BLOB), form, CAST(attributes AS BLOB),
    CAST(time AS INTEGER)
FROM old_events LEFT JOIN topics ON topics.id = topic_id ORDER BY seq LIMIT ?
"""
REMOVE = "DELETE FROM old_events WHERE seq <= ?"
DROP = "DROP TABLE old_events"


def convert_some(db: sqlite3.Connection) -> bool:
    """Bring some more into blocks, the oldest ones first; whether there may be more."""
    if not has_old_events(db):
        return False
    found = _some(db)
    if not found:
        with atomic(db):
            db.execute(DROP)
        return False
    last = found[-1][0]
    with atomic(db):
        for first, events in _following(found):
            writing.store(db, first, events)
        db.execute(REMOVE, (last,))
    log.info("the events of an older release are converted, up to event %d", last)
    return True


def _some(db: sqlite3.Connection) -> list[tuple[int, Event]]:
    found: list[tuple[int, Event]] = []
    size = 0
    with closing(db.execute(OLDEST, (AT_ONCE,))) as rows:
        for seq, *row in rows:
            event = _read(*row)
            found.append((seq, event))
            size += len(event.payload)
            if size >= PAGE_BYTES:
                break
    return found


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
        received_at=received_at,
        topic=topic,
        event_id=event_id,
        timestamp=timestamp or "",
        source=source,
        payload=payload or b"",
        key=key[:KEY].ljust(KEY, b"\0"),
        digest=digest[:DIGEST].ljust(DIGEST, b"\0"),
        form=Form.JSON if payload is None else form_of(code),
        attributes=attributes or b"",
        known_moment=time,
    )
