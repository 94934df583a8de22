"""A backup: a copy of the database in a new file, proved before it gets its name."""

import sqlite3
from contextlib import closing
from pathlib import Path

from aggregator.errors import StoreError
from aggregator.store import Backup
from aggregator_sqlite import blocks, runs
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.files import AtomicFile
from aggregator_sqlite.runs import KEY
from aggregator_sqlite.schema import check_version, kept_key_spec

COPY = "VACUUM INTO ?"
CONTENTS = """
SELECT (SELECT total(length(CAST(keys AS BLOB))) FROM blocks), (SELECT total(keys) FROM runs),
    (SELECT coalesce(max(upto), 0) FROM runs),
    (SELECT max(first + length(CAST(keys AS BLOB)) / 16) FROM blocks), stored, last_seq
FROM counters
"""


async def back_up(database: Path, destination: Path) -> Backup:
    """Copy the database into a file that gets its name once it is proved and durable."""
    file = AtomicFile(destination, database)
    try:
        reader = await SqliteThread.read_only(database)
        await reader.run_and_close(copy, file.path)
        reader = await SqliteThread.read_only(file.path)
        contents = await reader.run_and_close(proved)
        return Backup(*contents, size=file.commit())
    except StoreError as error:
        file.discard()
        raise StoreError(f"backup: {destination}: {error}") from error
    except BaseException:
        file.discard()
        raise


def copy(db: sqlite3.Connection, into: Path) -> None:
    """Copy in one read transaction, which blocks no writer. `into` is an empty file.

    It is not synced (https://sqlite.org/lang_vacuum.html). Raises SettingError for a file with an
    older schema.
    """
    check_version(db)
    db.execute(COPY, (str(into),))


def proved(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Check the copy. Returns its number of events, how many were ever stored, and the last seq.

    Raises StoreError if the copy or its index of keys is damaged, or its numbers do not agree.
    There may be keys without events: those that were removed by hand.
    """
    said = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok" or kept_key_spec(db) is None:
        raise StoreError(f"the copy is damaged: {said}")
    size, in_runs, upto, end, stored, last_seq = db.execute(CONTENTS).fetchone()
    events, newest = int(size) // KEY, (end or 1) - 1
    with closing(blocks.keys_since(db, upto + 1, last_seq)) as newest_keys:
        keys = int(in_runs) + sum(1 for _ in newest_keys)
    if not events <= keys <= stored or newest > last_seq:
        raise StoreError(
            f"the numbers in the copy do not agree: {events} events, {keys} keys, {stored} stored; "
            f"the newest seq is {newest}, the last one given {last_seq}"
        )
    for run in runs.load_runs(db):
        run.check(db)
    return events, stored, last_seq
