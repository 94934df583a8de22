"""`aggregator check`: reads all that the file holds, and tells what is not as it was written.

Events first, in pieces: each is a short transaction of its own, because SQLite keeps in the log
what is committed while one is open. Since events are only ever appended, what was read stays so;
what belongs to an event by itself, its entries in the indexes, is looked up in the same piece. At
the end one transaction reads the rest, and holds what was summed up meanwhile against the tables
that sum it up too: topics, counters, and how many entries the indexes have.
"""

import sqlite3
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aggregator.store import Checked
from aggregator_sqlite import findings, read
from aggregator_sqlite.check_events import Events
from aggregator_sqlite.check_tables import Again, Entries, KeysInRuns
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.findings import Findings
from aggregator_sqlite.schema import check_version

TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
NEXT_REDELIVERIES = "SELECT * FROM redeliveries WHERE seq > ? ORDER BY seq LIMIT ?"
REDELIVERIES_OF = "SELECT * FROM redeliveries WHERE seq = ?"
NEXT_CONFLICTS = "SELECT * FROM conflicting_contents WHERE seq > ? ORDER BY seq LIMIT ?"
CONFLICTS_OF = "SELECT * FROM conflicting_contents WHERE seq = ?"

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_UNFIT = (TypeError, ValueError, LookupError, ArithmeticError, struct.error)
"""What it comes to where a flipped bit has made of a value one of another type."""

Tell = Callable[[str], None]
Step = Callable[[sqlite3.Connection], bool]
"""Reads some rows; whether there may be more."""


async def check(path: Path, tell: Tell, *, is_running: bool) -> Checked:
    """Check the file, and tell how far it is. Raises StoreError where it cannot be looked at."""
    found = Findings()
    events = Events(found)
    reader = await SqliteThread.read_only(path)

    async def attempt(step: Step, doing: str) -> None:
        tell(doing)
        while await reader.run(_in_transaction, step, found, doing):
            tell(f"{doing}: {events.count:,} events so far")

    try:
        await reader.run(check_version)
        for table in await reader.run(_tables):
            await attempt(partial(_structure, table, found), f"how SQLite keeps the table {table}")
        await attempt(events.read_some, "reading the events")
        await attempt(events.compare, "what is derived from the events")
        await attempt(KeysInRuns(found, events).read_some, "reading the index of keys")
        for again in (
            Again(found, NEXT_REDELIVERIES, REDELIVERIES_OF, read.is_redelivery_whole),
            Again(found, NEXT_CONFLICTS, CONFLICTS_OF, read.is_conflict_whole),
        ):
            await attempt(again.read_some, "reading what came again")
        await attempt(Entries(found).read_some, "reading the quarantine")
    finally:
        await reader.close()
    return Checked(events.count, events.last, is_running, found.told())


def _tables(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute(TABLES)]


def _in_transaction(db: sqlite3.Connection, step: Step, found: Findings, doing: str) -> bool:
    """Take the step, which sees the file as it is at one moment. Damage that SQLite finds ends it.

    Raises what may be gone next time.
    """
    db.execute("BEGIN")
    try:
        return step(db)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _CORRUPT:
            raise
        found.add(findings.UNREADABLE, f"{doing}: {error}")
    except _UNFIT as error:
        found.add(findings.UNREADABLE, f"{doing}: {error}")
    finally:
        db.rollback()
    return False


def _structure(table: str, found: Findings, db: sqlite3.Connection) -> bool:
    """Have SQLite look at how it keeps that table and its indexes."""
    quoted = table.replace("'", "''")
    for (line,) in db.execute(f"PRAGMA integrity_check('{quoted}')"):
        if line != "ok":
            found.add(findings.STRUCTURE, f"{table}: {line}".replace("\n", " "))
    return False
