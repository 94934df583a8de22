"""`aggregator check`: reads all that the file holds, and tells what is not as it was written.

It is read in pieces, each a short transaction of its own: while one is open, SQLite keeps in the
log what is committed meanwhile.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from aggregator.errors import StoreError
from aggregator.store import Checked, Finding
from aggregator_sqlite import read
from aggregator_sqlite.connection import SqliteThread

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
_EVENTS = "SELECT coalesce(sum(length(keys)), 0) / 16 FROM blocks"
_SHOWN = 5  # examples in a finding
RESTORE = "restore a backup: docs/backup.md"

Tell = Callable[[str], None]


async def check(path: Path, tell: Tell, *, is_running: bool) -> Checked:
    """Check the file, and tell how far it is."""
    reader = await SqliteThread.read_only(path)
    findings: list[Finding] = []
    try:
        for table in await reader.run(_tables):
            tell(f"how SQLite keeps {table}")
            findings += await reader.run(_structure, table)
        events = await reader.run(_count)
        newest = (await reader.run(read.span)).newest
    except StoreError as error:
        findings.append(Finding(str(error), "the file cannot be read any further", RESTORE))
        events = newest = 0
    finally:
        await reader.close()
    return Checked(events, newest, is_running, findings)


def _tables(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute(_TABLES)]


def _count(db: sqlite3.Connection) -> int:
    return int(db.execute(_EVENTS).fetchone()[0])


def _structure(db: sqlite3.Connection, table: str) -> list[Finding]:
    """What SQLite finds wrong in how it keeps that table and its indexes."""
    said = [line.replace("\n", " ") for (line,) in db.execute(f"PRAGMA integrity_check('{table}')")]
    if said == ["ok"]:
        return []
    return [
        Finding(
            f"how SQLite keeps the table {table}: {'; '.join(said[:_SHOWN])}",
            "rows of it may be hidden, or be found in another's place",
            RESTORE,
        )
    ]
