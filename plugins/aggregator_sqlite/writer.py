"""The connection that writes: made durable, brought up to date and proved before it is used."""

import sqlite3
import time

from aggregator.errors import SettingError, StoreError
from aggregator_sqlite.atomic import atomic
from aggregator_sqlite.log import Log
from aggregator_sqlite.schema import STEPS, check_owner, check_recipe, migrate

BUSY_TIMEOUT = 5.0  # seconds; a backup such as Litestream's takes the lock for moments
_PAUSE = 0.05  # seconds
_FULL = 2

PROVE_WRITING = f"PRAGMA user_version = {len(STEPS)}"
"""Writes a page, and syncs it. An UPDATE that changes nothing does neither, nor does a checkpoint
of an empty log."""


def write_log_again(db: sqlite3.Connection, log: Log) -> None:
    """Have on the disk all that the log shows, before anything is built on it.

    SQLite's lock keeps other programs from writing between what is read and what is written.
    """
    check_owner(db)
    with atomic(db):
        log.write_again()


def prepare(db: sqlite3.Connection, recipe: str, replaces: str | None) -> None:
    """Settings that make a commit durable, read back; the schema; an empty log; and a commit.

    The checkpoint makes durable what a failed fsync may have left in the page cache alone: those
    events are found here, so a retry would be told that they are stored.
    """
    check_owner(db)
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute("PRAGMA synchronous = FULL")
    synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, synchronous) != ("wal", _FULL):
        raise SettingError(
            f"store: SQLite answers journal_mode={mode}, synchronous={synchronous} where wal and "
            f"{_FULL} are needed; network file systems cannot do that"
        )
    migrate(db)
    check_recipe(db, recipe, replaces)
    _checkpoint(db)
    db.execute(PROVE_WRITING)


def _checkpoint(db: sqlite3.Connection) -> None:
    """Copy the whole log into the file. Raises StoreError if another connection is in the way.

    A reader elsewhere may keep the log from being emptied: what counts is that all is copied.
    Where another connection checkpoints, SQLite says so at once, with -1 for both numbers.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        is_busy, logged, copied = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy or 0 <= logged == copied:
            return
        if time.monotonic() > deadline:
            raise StoreError("checkpoint: another connection holds the log")
        time.sleep(_PAUSE)
