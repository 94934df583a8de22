"""SQLite and nothing else: inserts rows that are tuples already, a thousand a transaction."""

import gc
import json
import sqlite3
import sys
import time

from loadgen.bench.event import row

AT_ONCE = 1000
CHUNK = 50_000
"""Rows made at a time, which is not counted."""
TABLE = """
CREATE TABLE IF NOT EXISTS events (
    topic TEXT NOT NULL, event_id TEXT NOT NULL, timestamp TEXT NOT NULL, source TEXT NOT NULL,
    payload TEXT NOT NULL, UNIQUE (topic, event_id)
)"""
INSERT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)"


def insert(
    db: sqlite3.Connection, start: int, events: int, seconds: float, *, ordered: bool
) -> tuple[int, float, float]:
    """How many were inserted, in which time, with how much of the processor's."""
    done, took, used = 0, 0.0, 0.0
    while done < events and took < seconds:
        chunk = range(start + done, start + min(events, done + CHUNK))
        rows = [tuple(row(number, ordered=ordered)) for number in chunk]
        gc.disable()
        began, busy = time.perf_counter(), time.process_time()
        for first in range(0, len(rows), AT_ONCE):
            some = rows[first : first + AT_ONCE]
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, some)
            db.execute("COMMIT")
            done += len(some)
            if took + time.perf_counter() - began >= seconds:
                break
        took += time.perf_counter() - began
        used += time.process_time() - busy
        gc.enable()
    return done, took, used


def main() -> None:
    plan = json.loads(sys.argv[1])
    db = sqlite3.connect(plan["path"], isolation_level=None)
    assert db.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    db.execute("PRAGMA synchronous=FULL")
    db.execute(TABLE)
    events, seconds, processor = insert(
        db, plan["start"], plan["events"], plan["seconds"], ordered=plan["ordered"]
    )
    (stored,) = db.execute("SELECT count(*) FROM events").fetchone()
    db.close()
    found = {"events": events, "seconds": seconds, "processor": processor, "stored": stored}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
