"""SQLite and nothing else: inserts rows that are tuples already, a thousand a transaction."""

import gc
import json
import sqlite3
import sys
import time

from loadgen.bench.body import Shape, fifth_again, new

AT_ONCE = 1000
CHUNK = 50_000
"""Rows made at a time, which is not counted."""
TABLE = """
CREATE TABLE IF NOT EXISTS events (
    topic TEXT NOT NULL, event_id TEXT NOT NULL, timestamp TEXT NOT NULL, source TEXT NOT NULL,
    payload TEXT NOT NULL, UNIQUE (topic, event_id)
)"""
INSERT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)"


COUNT = "SELECT count(*) FROM events"


def insert(
    db: sqlite3.Connection, shape: Shape, start: int, events: int, seconds: float
) -> dict[str, float]:
    """How many were inserted, how many of them are new, and what it took of both clocks."""
    done, unique, took, used = 0, 0, 0.0, 0.0
    while done < events and took < seconds:
        rows = [tuple(one) for one in shape.events(start + done, min(events - done, CHUNK))]
        inserted = 0
        gc.disable()
        began, busy = time.perf_counter(), time.process_time()
        for first in range(0, len(rows), AT_ONCE):
            some = rows[first : first + AT_ONCE]
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, some)
            db.execute("COMMIT")
            inserted += len(some)
            if took + time.perf_counter() - began >= seconds:
                break
        took += time.perf_counter() - began
        used += time.process_time() - busy
        gc.enable()
        done += inserted
        unique += len(set(rows[:inserted]))
    return {"events": done, "new": unique, "seconds": took, "processor": used}


def main() -> None:
    plan = json.loads(sys.argv[1])
    db = sqlite3.connect(plan["path"], isolation_level=None)
    assert db.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    db.execute("PRAGMA synchronous=FULL")
    db.execute(TABLE)
    shape = Shape(AT_ONCE, is_ordered=plan["ordered"], choice=fifth_again if plan["again"] else new)
    (before,) = db.execute(COUNT).fetchone()
    found = insert(db, shape, plan["start"], plan["events"], plan["seconds"])
    (after,) = db.execute(COUNT).fetchone()
    db.close()
    sys.stdout.write(json.dumps(found | {"stored": after - before}))


if __name__ == "__main__":
    main()
