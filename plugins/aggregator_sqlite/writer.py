"""The connection that writes: made durable, brought up to date and proved before it is used."""

import os
import sqlite3

from aggregator.errors import SettingError, StoreError
from aggregator_sqlite.schema import check_owner, check_recipe, migrate

BUSY_TIMEOUT = 5.0  # seconds; a backup such as Litestream's takes the lock for moments
_PATIENCE = 500  # milliseconds; a page is read in less
_PART = 1_048_576  # bytes
_FULL = 2

PROVE_WRITING = "UPDATE counters SET last_seq = last_seq"


def prepare(db: sqlite3.Connection, recipe: str, replaces: str | None) -> None:
    """Settings that make a commit durable, read back; the schema; and a log that is on the disk.

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
    db.execute(PROVE_WRITING)
    _checkpoint(db)


def _checkpoint(db: sqlite3.Connection) -> None:
    """Copy the whole log into the file; where another connection is in the way, write it again.

    A reader elsewhere may keep the log from being emptied: what counts is that all is copied. One
    that reads for long, a backup or Litestream, keeps what was committed since from being copied
    too. Where another connection checkpoints, SQLite says so at once, with -1 for both numbers.
    """
    db.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    is_busy, logged, copied = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
    if is_busy and not 0 <= logged == copied:
        _write_log_again(db)


def _write_log_again(db: sqlite3.Connection) -> None:
    """Make the log durable where it is: what it holds is found there by whoever reads.

    After a failed fsync its pages count as written, and the next fsync succeeds without writing
    them (https://wiki.postgresql.org/wiki/Fsync_Errors); written again, they are due again. The
    transaction keeps others from writing to the log and from emptying it meanwhile.
    """
    database = db.execute("PRAGMA database_list").fetchone()[2]
    db.execute("BEGIN IMMEDIATE")
    try:
        with open(f"{database}-wal", "r+b") as log:
            while part := log.read(_PART):
                log.seek(-len(part), os.SEEK_CUR)
                log.write(part)
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise StoreError(f"checkpoint: cannot write the log again: {error.strerror}") from error
    finally:
        db.rollback()
