"""The tables, made by numbered steps that also bring an older file up to date.

`blocks` has the events, and is only ever appended to, in the order of seq. `runs` and `run_pages`
are the index of their keys and names, derived from them, and are appended to as well.
`redeliveries` and `conflicting_contents` are written only when an event comes again, `fields` only
where pointers are indexed.
"""

import sqlite3

from aggregator.errors import KeySpecDiffers, SettingError
from aggregator_sqlite.connection import immediate_transaction

APPLICATION_ID = 0x41474731  # of no database that was made before the first release
"""Marks a file as ours, in the header where `file(1)` and others look for it."""


def iso_8601(microseconds: str) -> str:
    """SQL for that column in ISO 8601, always with six digits for a second's part: it sorts."""
    # What is before 1970 is negative, and SQLite's `%` keeps the sign.
    part = f"({microseconds} % 1000000 + 1000000) % 1000000"
    second = f"({microseconds} - {part}) / 1000000"
    return f"strftime('%Y-%m-%dT%H:%M:%S', {second}, 'unixepoch') || printf('.%06dZ', {part})"


# A step that was released is never changed: what comes later is a further step at the end.
STEPS = (
    (
        """CREATE TABLE meta (
            key_spec TEXT NOT NULL, -- of which members a key is made
            needs_log INTEGER NOT NULL DEFAULT 0 -- 1 until a clean end: commits may be in the log
        )""",
        """CREATE TABLE counters (
            stored INTEGER NOT NULL DEFAULT 0,
            duplicate INTEGER NOT NULL DEFAULT 0,
            conflict INTEGER NOT NULL DEFAULT 0,
            invalid INTEGER NOT NULL DEFAULT 0,
            filtered INTEGER NOT NULL DEFAULT 0,
            refused INTEGER NOT NULL DEFAULT 0,
            failed_async INTEGER NOT NULL DEFAULT 0,
            topics INTEGER NOT NULL DEFAULT 0,           -- on which events are stored
            last_seq INTEGER NOT NULL DEFAULT 0,         -- never given again, even when deleted
            quarantined INTEGER NOT NULL DEFAULT 0,
            evicted INTEGER NOT NULL DEFAULT 0,
            quarantine_bytes INTEGER NOT NULL DEFAULT 0, -- that the entries in quarantine come to
            last_entry INTEGER NOT NULL DEFAULT 0,       -- id in quarantine; never given again
            checksum INTEGER NOT NULL DEFAULT 0          -- as `sums.py` says; of other tables too
        )""",
        "INSERT INTO counters DEFAULT VALUES",
        """CREATE TABLE topics (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            stored INTEGER NOT NULL DEFAULT 0,
            duplicate INTEGER NOT NULL DEFAULT 0,
            conflict INTEGER NOT NULL DEFAULT 0,
            first_seq INTEGER NOT NULL, -- of the first event on the topic
            first_at INTEGER NOT NULL,  -- when that was received, in microseconds since 1970
            last_seq INTEGER NOT NULL,  -- the same of the last one
            last_at INTEGER NOT NULL,
            checksum INTEGER NOT NULL
        )""",
        """CREATE TABLE blocks (
            first_seq INTEGER PRIMARY KEY, -- that of its first event; those of the others follow
            first_seq_copy INTEGER NOT NULL, -- a flipped bit in one of them is noticed
            newest_at INTEGER NOT NULL, -- the newest arrival up to its end, in µs since 1970
            behind INTEGER NOT NULL,    -- how far any event up to its end came behind that, in µs
            arrivals_checksum INTEGER NOT NULL, -- over these two and first_seq
            checksum INTEGER NOT NULL, -- over keys and names; -1: take them as they stand
            keys BLOB NOT NULL,        -- 16 bytes an event: hash over the parts of the key
            names BLOB NOT NULL,       -- the same over topic and event_id; zeros: that is the key
            digests BLOB NOT NULL,     -- 17 bytes an event: hash over source and payload
            ends BLOB NOT NULL,        -- 4 bytes an event, little-endian: where in `events` it ends
            sizes BLOB NOT NULL,       -- 4 bytes an event, the same: of its payload in `events`
            checksums BLOB NOT NULL,   -- 4 bytes an event, the same: over all that is stored of it
            events BLOB NOT NULL       -- JSON: an array of what the view `events` shows
        )""",
        # For people with sqlite3. Nothing reads it, so it may fail in a SQLite without JSON.
        f"""CREATE VIEW events AS SELECT
            seq,
            {iso_8601("received_us")} AS received_at, -- in UTC
            topic,
            event_id,
            timestamp, -- as it came
            {iso_8601("time_us")} AS time, -- the timestamp in UTC; NULL where none can be read
            source,
            payload, -- JSON; base64 where payload_kind is bytes
            CASE payload_kind WHEN 0 THEN 'json' WHEN 1 THEN 'bytes' ELSE 'nothing' END
                AS payload_kind,
            attributes, -- JSON: what else a CloudEvent says of itself; NULL if it is none
            received_us, -- microseconds since 1970, as all times in the tables are
            time_us,
            lower(hex(key)) AS key,
            lower(hex(digest)) AS digest, -- as the API shows it
            block -- blocks.first_seq, by which SQLite finds the event
        FROM (SELECT
            first_seq AS block,
            first_seq + event.key AS seq,
            json_extract(event.value, '$[0]') AS received_us,
            json_extract(event.value, '$[1]') AS topic,
            json_extract(event.value, '$[2]') AS event_id,
            json_extract(event.value, '$[3]') AS timestamp,
            json_extract(event.value, '$[4]') AS source,
            json_extract(event.value, '$[5]') AS time_us,
            json_extract(event.value, '$[6]') AS payload_kind, -- as PayloadKind numbers them
            json_extract(event.value, '$[7]') AS attributes,
            json_extract(event.value, '$[8]') AS payload,
            substr(keys, 16 * event.key + 1, 16) AS key,
            substr(digests, 17 * event.key + 1, 17) AS digest
        FROM blocks, json_each(CAST(blocks.events AS TEXT)) AS event)""",  # noqa: S608
        """CREATE TABLE blocks_by_topic (
            topic_id INTEGER NOT NULL,
            first_seq INTEGER NOT NULL, -- of a block that has events on the topic
            PRIMARY KEY (topic_id, first_seq)
        ) WITHOUT ROWID""",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            level INTEGER NOT NULL, -- how often its keys were merged
            entries INTEGER NOT NULL,
            names INTEGER NOT NULL, -- so many of these are names; the others are keys
            after INTEGER NOT NULL, -- the keys and names of the events whose seq is more than this
            upto INTEGER NOT NULL,  -- and not more than this
            fences BLOB NOT NULL,   -- the first 8 bytes of each page
            checksum INTEGER NOT NULL
        )""",
        """CREATE TABLE run_pages (
            id INTEGER PRIMARY KEY, -- the run's id, and the page's number in it
            entries BLOB NOT NULL   -- key or inverted name, and seq, in order; and a checksum
        )""",
        """CREATE TABLE pointers (
            id INTEGER PRIMARY KEY,
            pointer TEXT NOT NULL UNIQUE,
            built_to INTEGER -- the events up to this seq are in fields; NULL: all are
        )""",
        """CREATE TABLE fields (
            pointer_id INTEGER NOT NULL,
            value BLOB NOT NULL, -- the value, or its hash if it is long
            seq INTEGER NOT NULL,
            PRIMARY KEY (pointer_id, value, seq)
        ) WITHOUT ROWID""",
        """CREATE TABLE redeliveries (
            seq INTEGER NOT NULL,
            source TEXT NOT NULL,
            duplicates INTEGER NOT NULL,
            conflicts INTEGER NOT NULL,
            first_at INTEGER NOT NULL, -- microseconds since 1970
            last_at INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            PRIMARY KEY (seq, source)
        ) WITHOUT ROWID""",
        """CREATE TABLE conflicting_contents (
            seq INTEGER NOT NULL,
            digest BLOB NOT NULL,
            differences TEXT NOT NULL, -- JSON: pointers
            source TEXT NOT NULL,      -- from which it came first
            times INTEGER NOT NULL,
            first_at INTEGER NOT NULL,
            last_at INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            PRIMARY KEY (seq, digest)
        ) WITHOUT ROWID""",
        """CREATE TABLE quarantine (
            id INTEGER PRIMARY KEY,
            kept_at INTEGER NOT NULL,
            size INTEGER NOT NULL, -- as Quarantined.size says
            reason TEXT NOT NULL,
            submission TEXT NOT NULL,
            topic TEXT NOT NULL,
            event_id TEXT NOT NULL,
            is_cloud_event INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            headers BLOB NOT NULL, -- JSON
            detail BLOB NOT NULL,  -- JSON
            body BLOB NOT NULL     -- as it was sent
        )""",
        "CREATE INDEX quarantine_by_time ON quarantine (kept_at)",
    ),
)


def migrate(db: sqlite3.Connection) -> None:
    """Take the steps that the file lacks, all or none."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == len(STEPS):
        return
    with immediate_transaction(db):
        for step in STEPS[version:]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(STEPS)}")


def read_key_spec(db: sqlite3.Connection) -> str | None:
    """The key spec in the file, None if it is new. Raises SettingError if it is not ours."""
    check_owner(db)
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        return None
    kept = db.execute("SELECT key_spec FROM meta").fetchone()
    return str(kept[0]) if kept else None


def check_version(db: sqlite3.Connection) -> None:
    """Raise SettingError for a file with an older schema."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version < len(STEPS):
        raise SettingError(
            f"store: the file has schema version {version}, this release has {len(STEPS)}, and "
            "brings it up to date when the service is started: do that once before"
        )


def check_key_spec(db: sqlite3.Connection, key_spec: str, replaces: str | None) -> None:
    """Keep the key spec in a new file, or in place of the one that it `replaces`.

    Raises KeySpecDiffers if the file keeps another one.
    """
    kept = read_key_spec(db)
    if kept is None:
        db.execute("INSERT INTO meta (key_spec) VALUES (?)", (key_spec,))
    elif kept == key_spec:
        return
    elif kept == replaces:
        db.execute("UPDATE meta SET key_spec = ?", (key_spec,))
    else:
        raise KeySpecDiffers(kept, key_spec)


def check_owner(db: sqlite3.Connection) -> None:
    """Raise SettingError for a file of another program or of a newer release. Writes nothing."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    is_empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if owner != APPLICATION_ID and not is_empty:
        raise SettingError(
            "store: the file is a SQLite database of another program, or of a build before the "
            "first release"
        )
    if version > len(STEPS):
        raise SettingError(
            f"store: the file has schema version {version}, this release knows {len(STEPS)}: "
            "it was written by a newer release"
        )
