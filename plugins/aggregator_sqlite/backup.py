"""A backup: a copy of the database in a new file, proved before it gets its name."""

import fcntl
import os
import sqlite3
import stat
import tempfile
from contextlib import closing
from glob import escape
from pathlib import Path

from aggregator.errors import SettingError, StoreError
from aggregator.store import Backup
from aggregator_sqlite import blocks, runs
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.files import sync
from aggregator_sqlite.mark import CLEAR
from aggregator_sqlite.runs import KEY
from aggregator_sqlite.schema import check_version, read_key_spec
from aggregator_sqlite.sums import check_counters

COPY = "VACUUM INTO ?"
CONTENTS = """
SELECT (SELECT total(length(CAST(keys AS BLOB))) FROM blocks),
    (SELECT total(entries - names) FROM runs),
    (SELECT coalesce(max(upto), 0) FROM runs), stored, last_seq
FROM counters
"""

_WITH_DATA = ("-wal", "-journal")  # what SQLite keeps beside a database, part of its contents
_OTHERS = ("-shm", ".lock")  # what else may be beside the store


async def back_up(database: Path, destination: Path) -> Backup:
    """Copy the database into a file that gets its name once it is proved and durable."""
    file = AtomicFile(destination, database)
    try:
        reader = await SqliteThread.read_only(database)
        await reader.run_and_close(copy, file.path)
        # The copy is whole by itself, whatever mark the running service has in its file.
        writer = await SqliteThread.connect(str(file.path))
        await writer.run_and_close(sqlite3.Connection.execute, CLEAR)
        reader = await SqliteThread.read_only(file.path)
        contents = await reader.run_and_close(check_copy)
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


def check_copy(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Check the copy. Returns its number of events, how many were ever stored, and the last seq.

    Raises StoreError if the copy or its index of keys is damaged, or its numbers do not agree: a
    service would not start with it.
    There may be keys without events: those that were removed by hand.
    """
    said = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok" or read_key_spec(db) is None:
        raise StoreError(f"the copy is damaged: {said}")
    check_counters(db)
    size, in_runs, upto, stored, last_seq = db.execute(CONTENTS).fetchone()
    events = int(size) // KEY
    with closing(blocks.keys_since(db, upto + 1, last_seq)) as newest_keys:
        keys = int(in_runs) + sum(1 for _ in newest_keys)
    if not events <= keys <= stored:
        raise StoreError(
            f"the numbers in the copy do not agree: {events} events, {keys} keys, {stored} stored"
        )
    for run in runs.load_runs(db):
        run.check(db)
    return events, stored, last_seq


class AtomicFile:
    """A new file that gets its name once it is complete and durable, and not before.

    Until then it is `path`, beside `destination`, under a `flock`, which SQLite does not notice.
    """

    def __init__(self, destination: Path, original: Path) -> None:
        """Make the file; remove unfinished ones that killed backups have left.

        Raises SettingError if it cannot be made, the name is taken, or another backup makes it.
        """
        self._destination = destination.absolute()
        name, folder = self._destination.name, self._destination.parent
        try:
            _check_name(self._destination, original)
            self._mode = stat.S_IMODE(original.stat().st_mode)
            for left in folder.glob(f".{escape(name)}.????????.part"):
                _remove(left, self._destination)
            self._file, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
        except OSError as error:
            raise SettingError(
                f"backup: cannot write {self._destination}: {error.strerror}"
            ) from error
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.path = Path(path)

    def commit(self) -> int:
        """Sync it, give it the original's rights and its name; return its size in bytes.

        Raises StoreError if it cannot be made durable.
        """
        try:
            self.path.chmod(self._mode)
            _sync(self.path)
            _check_free(self._destination)
            _rename(self.path, self._destination)
            self.path = self._destination
            _sync(self.path.parent)
            size = self.path.stat().st_size
        except FileExistsError as error:
            raise _taken(self._destination) from error
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        os.close(self._file)
        return size

    def discard(self) -> None:
        """Remove it, and the journal that SQLite may have left beside it."""
        _unlink(self.path)
        os.close(self._file)


def _remove(left: Path, destination: Path) -> None:
    """Remove the unfinished file of a backup that was killed: it is not locked any more."""
    try:
        file = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _unlink(left)
    except BlockingIOError:
        raise SettingError(f"backup: another one to {destination} is under way") from None
    finally:
        os.close(file)


def _unlink(unfinished: Path) -> None:
    _beside(unfinished, "-journal").unlink(missing_ok=True)
    unfinished.unlink(missing_ok=True)


def _rename(unfinished: Path, destination: Path) -> None:
    """Rename without overwriting anything. Raises FileExistsError."""
    try:
        destination.hardlink_to(unfinished)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        unfinished.rename(destination)
    else:
        unfinished.unlink()


def _check_name(destination: Path, original: Path) -> None:
    folder = destination.parent.resolve()
    if destination.resolve() == original:
        raise SettingError(f"backup: {destination} is the store itself")
    if folder / destination.name in [_beside(original, end) for end in (*_WITH_DATA, *_OTHERS)]:
        raise SettingError(f"backup: {destination} is the name of a file that belongs to the store")
    if not folder.is_dir():
        raise SettingError(f"backup: there is no folder {folder}")
    _check_free(destination)


def _check_free(destination: Path) -> None:
    if os.path.lexists(destination):
        raise _taken(destination)
    for end in _WITH_DATA:
        if (left := _beside(destination, end)).exists():
            raise SettingError(
                f"backup: {left} belongs to a database that was there before, and would be mixed "
                "into the copy: move it away"
            )


def _taken(destination: Path) -> SettingError:
    return SettingError(f"backup: {destination} is there already; nothing is overwritten")


def _beside(database: Path, end: str) -> Path:
    return database.with_name(database.name + end)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        sync(file)
    finally:
        os.close(file)
