"""The tables, and the numbered steps that bring an older file to them.

`events` is only ever appended to, in the order of seq; `keys` is the one index that is written at
a random place, once an event, and holds nothing but the key and where its event is. `sightings` is
written only when an event comes again.
"""

import sqlite3

from aggregator.errors import SettingError

APPLICATION_ID = 0x41474752
"""Marks a file as ours, in the header where `file(1)` and others look for it."""

STEPS = (
    (
        """CREATE TABLE meta (
            recipe TEXT NOT NULL -- of which members a key is made
        )""",
        """CREATE TABLE counters (
            stored INTEGER NOT NULL,
            duplicate INTEGER NOT NULL,
            conflict INTEGER NOT NULL,
            invalid INTEGER NOT NULL,
            filtered INTEGER NOT NULL,
            refused INTEGER NOT NULL,
            topics INTEGER NOT NULL,  -- on which events are stored
            last_seq INTEGER NOT NULL -- never given again, even when its event is deleted
        )""",
        "INSERT INTO counters VALUES (0, 0, 0, 0, 0, 0, 0, 0)",
        """CREATE TABLE topics (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            stored INTEGER NOT NULL DEFAULT 0,
            duplicate INTEGER NOT NULL DEFAULT 0,
            conflict INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY,
            received_at INTEGER NOT NULL, -- microseconds since 1970
            key BLOB NOT NULL,            -- hash over the recipe's members
            digest BLOB NOT NULL,         -- hash over source and payload
            topic_id INTEGER NOT NULL REFERENCES topics (id),
            event_id TEXT NOT NULL,
            time INTEGER,                 -- microseconds since 1970, from the timestamp
            timestamp TEXT,               -- as it came
            source TEXT NOT NULL,
            payload BLOB                  -- JSON, byte for byte as it came
        )""",
        "CREATE INDEX events_by_topic ON events (topic_id)",
        """CREATE TABLE keys (
            key BLOB PRIMARY KEY,
            seq INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE sightings (
            seq INTEGER NOT NULL,
            source TEXT NOT NULL,
            duplicates INTEGER NOT NULL,
            conflicts INTEGER NOT NULL,
            last_at INTEGER NOT NULL, -- microseconds since 1970
            PRIMARY KEY (seq, source)
        ) WITHOUT ROWID""",
    ),
)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the file to the newest version, all steps or none."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == len(STEPS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[version:]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(STEPS)}")
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def check_recipe(db: sqlite3.Connection, recipe: str) -> None:
    """Keep the recipe in a new file; raise SettingError if an older one has another."""
    kept = db.execute("SELECT recipe FROM meta").fetchone()
    if kept is None:
        db.execute("INSERT INTO meta VALUES (?)", (recipe,))
    elif kept[0] != recipe:
        raise SettingError(
            f"store: the keys of its events are made of {kept[0]!r}, not of {recipe!r}: "
            "every stored event would be new again"
        )


def check_owner(db: sqlite3.Connection) -> None:
    """Raise SettingError for a file that is not ours to change. Writes nothing."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    is_empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if owner != APPLICATION_ID and not is_empty:
        raise SettingError("store: the file is a SQLite database of another program")
    if version > len(STEPS):
        raise SettingError(
            f"store: the file has schema version {version}, this release knows {len(STEPS)}: "
            "it was written by a newer release"
        )
