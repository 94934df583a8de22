"""Files as older releases have left them: of the first one, and of the last with a row an event."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from aggregator.event import Event
from aggregator.testing import make_event
from aggregator_sqlite import schema

WITH_ROWS = 3
"""The last version of the schema in which each event has a row."""

CONTENTS = (
    "INSERT INTO meta VALUES ('topic,event_id')",
    "UPDATE counters SET stored = 2, duplicate = 3, topics = 1, last_seq = 2",
    "INSERT INTO topics VALUES (1, 'logins', 2, 3, 0)",
    "INSERT INTO sightings VALUES (1, 'tests', 3, 0, 70)",
    "PRAGMA user_version = 1",
    f"PRAGMA application_id = {schema.APPLICATION_ID}",
)
EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, 1, ?, 0, '1970-01-01T00:00:00Z', ?, ?)"
TOPIC = "INSERT INTO topics (name, stored) VALUES (?, 1) ON CONFLICT DO NOTHING"
ROW = """
INSERT INTO events VALUES (?, ?, ?, ?, (SELECT id FROM topics WHERE name = ?), ?, ?, ?, ?, ?, ?, ?)
"""


def make_first_release(path: Path) -> None:
    """Make the file, with two events."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    for statement in (*schema.STEPS[0], *CONTENTS):
        db.execute(statement)
    for seq in (1, 2):
        event = make_event(str(seq))
        members = (event.received_at, event.key, event.digest, event.event_id, event.source)
        db.execute(EVENT, (seq, *members, event.payload))
        db.execute("INSERT INTO keys VALUES (?, ?)", (event.key, seq))
    db.commit()
    db.close()


def make_with_rows(path: Path, events: Mapping[int, Event]) -> None:
    """Make a file with these events by seq, a row each."""
    with closing(sqlite3.connect(path)) as db, db:
        for step in schema.STEPS[:WITH_ROWS]:
            for statement in step:
                db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('topic,event_id')")
        for seq, event in events.items():
            db.execute(TOPIC, (event.topic,))
            db.execute(ROW, row(seq, event))
        set_counters = "UPDATE counters SET stored = ?, topics = 1, last_seq = ?"
        db.execute(set_counters, (len(events), max(events)))
        db.execute(f"PRAGMA user_version = {WITH_ROWS}")
        db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")


def row(seq: int, event: Event) -> tuple[object, ...]:
    return (
        *(seq, event.received_at, event.key, event.digest, event.topic, event.event_id),
        *(event.timestamp_us, event.timestamp or None, event.source, event.payload),
        *(event.payload_kind.value, event.attributes or None),
    )
