"""The mark of an unclean end: whether the file alone, without its log, may lack commits.

It is in the database file itself before the first commit of a run, and is gone after a clean close.
In between the log is never empty, so an empty or missing one beside a marked file was lost.
docs/decisions/0025 has the reasons.
"""

import sqlite3
from pathlib import Path

from aggregator.errors import SettingError
from aggregator_sqlite.connection import SqliteThread, checkpoint, make_durable, prove_writing
from aggregator_sqlite.files import check_names, sync_folder
from aggregator_sqlite.schema import APPLICATION_ID, read_key_spec
from aggregator_sqlite.wal import WriteAheadLog

SET = "UPDATE meta SET needs_log = 1 WHERE needs_log = 0"
CLEAR = "UPDATE meta SET needs_log = 0 WHERE needs_log != 0"
READ = "SELECT needs_log != 0, last_seq FROM meta, counters"


def clear_copied_mark(db: sqlite3.Connection) -> None:
    """Clear the mark of a file that is written without a log, and so is whole without one.

    `VACUUM INTO` copies the mark of a running service. To be called before the file begins a log:
    from then on it would be missed until the first commit.
    """
    is_logged = db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    if not is_logged and read_key_spec(db) is not None:
        db.execute(CLEAR)


def set_mark(db: sqlite3.Connection, folder: Path) -> None:
    """Mark the file, and copy the log into it as far as readers allow.

    First the log is on the disk under its name: a file that is marked and has none does not start.
    For the same reason the log is not truncated, but begun anew, by a commit that is synced.

    A reader that is older than the mark, a backup of a stopped service or Litestream, keeps it in
    the log for now. The first checkpoint after it copies both.
    """
    db.execute(SET)
    sync_folder(folder)
    checkpoint(db)
    prove_writing(db)


def clear_mark(db: sqlite3.Connection) -> None:
    """Clear it, in the file too unless a reader keeps it in the log. For a clean close."""
    db.execute(CLEAR)
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


async def check_mark(database: Path, wal: WriteAheadLog) -> None:
    """Raise SettingError if the log is missing, and commits may be with it.

    To be called while nobody has the database open.
    """
    last_seq = await last_seq_without_log(database, wal)
    if last_seq is not None:
        check_names(database)  # the log may stand beside it under the other one
        raise SettingError(
            f"store: {wal.path} is missing or empty, and {database} was not closed in good order: "
            "what was committed last was in that log, and would be gone without a word\n"
            "put the log back, if it was moved away or left behind\n"
            "or restore a backup, as docs/backup.md says\n"
            f"or go on with what is in the file, up to seq {last_seq}: "
            "aggregator check --accept-missing-log"
        )


async def accept_missing_log(database: Path, wal: WriteAheadLog) -> int | None:
    """Clear the mark of a file whose log is missing. Returns the last seq that is there.

    None where no log is missing; nothing was changed then.
    """
    last_seq = await last_seq_without_log(database, wal)
    if last_seq is not None:
        check_names(database)
        writer = await SqliteThread.connect(str(database))
        await writer.run_and_close(_clear)
    return last_seq


async def last_seq_without_log(database: Path, wal: WriteAheadLog) -> int | None:
    """The last seq in a file that is marked and whose log is missing; else None."""
    if not wal.is_missing or not wal.is_expected:
        return None
    if wal.has_journal:  # a first start was cut off: SQLite rolls the file back to an empty one
        return None
    reader = await SqliteThread.immutable(database)  # SQLite makes no log and no lock then
    last_seq = await reader.run_and_close(_last_seq_if_marked)
    return last_seq if wal.is_missing else None  # a start has made one meanwhile, and set the mark


def _clear(db: sqlite3.Connection) -> None:
    make_durable(db)
    db.execute(CLEAR)


def _last_seq_if_marked(db: sqlite3.Connection) -> int | None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return None  # another program's, which the start refuses for that
    is_marked, last_seq = db.execute(READ).fetchone() or (0, 0)
    return int(last_seq) if is_marked else None
