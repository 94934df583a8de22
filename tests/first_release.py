"""A file as the first release has left it: schema version 1, and two events."""

import sqlite3
from pathlib import Path

from aggregator.testing import make_event
from aggregator_sqlite import schema

CONTENTS = (
    "INSERT INTO meta VALUES ('topic,event_id')",
    "UPDATE counters SET stored = 2, duplicate = 3, topics = 1, last_seq = 2",
    "INSERT INTO topics VALUES (1, 'logins', 2, 3, 0)",
    "INSERT INTO sightings VALUES (1, 'tests', 3, 0, 70)",
    "PRAGMA user_version = 1",
    f"PRAGMA application_id = {schema.APPLICATION_ID}",
)
EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, 1, ?, 0, '1970-01-01T00:00:00Z', ?, ?)"


def make_first_release(path: Path) -> None:
    """Make the file."""
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
