"""The connection that writes: made durable, brought up to date and proved before it is used."""

import sqlite3

from aggregator.errors import SettingError
from aggregator_sqlite.atomic import atomic
from aggregator_sqlite.schema import check_key_spec, check_owner, migrate
from aggregator_sqlite.wal import Log

BUSY_TIMEOUT = 5.0  # seconds; a backup such as Litestream's takes the lock for moments
_PATIENCE = 500  # milliseconds; a page is read in less
_FULL = 2


def prepare(db: sqlite3.Connection, log: Log, key_spec: str, replaces: str | None) -> None:
    """A log that is on the disk; settings that make a commit durable, read back; schema; a commit.

    A failed fsync may have left a commit in the page cache alone. Its events are found here, and a
    retry would be told that they are stored. So the log is written again before anything is built
    on it; SQLite's lock keeps other programs from writing between what is read and what is written.
    """
    check_owner(db)
    with atomic(db):
        log.write_again()
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute("PRAGMA synchronous = FULL")
    synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, synchronous) != ("wal", _FULL):
        raise SettingError(
            f"store: SQLite answers journal_mode={mode}, synchronous={synchronous} where wal and "
            f"{_FULL} are needed; network file systems cannot do that"
        )
    migrate(db)
    check_key_spec(db, key_spec, replaces)
    _checkpoint(db)
    _prove_writing(db)


def _prove_writing(db: sqlite3.Connection) -> None:
    """Write the schema's version again: a commit that writes a page, and syncs it.

    An UPDATE that changes nothing does neither, nor does a checkpoint of an empty log.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.execute(f"PRAGMA user_version = {version}")


def _checkpoint(db: sqlite3.Connection) -> None:
    """Copy the log into the file as far as nobody is in the way: it is on the disk already.

    Who reads for long, a backup or Litestream, keeps what was committed since from being copied.
    """
    db.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
