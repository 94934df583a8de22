"""A connection to the database: its thread, its PRAGMAs, its transactions and statements."""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from aggregator.errors import SettingError, StoreError

R = TypeVar("R")

BUSY_TIMEOUT = 5.0  # seconds to wait for a lock; a backup such as Litestream's takes it for moments

_CHECKPOINT_TIMEOUT = 500  # milliseconds to wait for readers; a page of events is read in less
_FULL = 2  # PRAGMA synchronous: an fsync a commit
_FULL_FSYNCS = ("fullfsync", "checkpoint_fullfsync")
_OUR_MISTAKES = (
    sqlite3.DataError,  # too large a value, say
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
_ROWS = (1024, 256, 64, 16, 8, 4, 3, 2, 1)  # in a statement
_ROW = re.compile(r"\(\?(?:, \?)*\)")


class SqliteThread:
    """A connection and its thread, on which it runs our functions, each in one hop.

    SQLite's errors about the file are raised as StoreError.

    Only here private names of aiosqlite are used: `_tx`, the queue of its thread, because nothing
    public puts a function of ours on it (with it most batches take one hop, without it each
    statement takes one); and `_thread`. A test fails if these names change.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._open = True

    @classmethod
    async def connect(cls, database: str, *, uri: bool = False) -> "SqliteThread":
        """Open the database to read and write; make it if there is none."""
        connection = aiosqlite.connect(
            database, isolation_level=None, timeout=BUSY_TIMEOUT, uri=uri
        )
        try:
            await connection
        except sqlite3.Error as error:
            # Its thread still calls the event loop once, which may be closed by then.
            await asyncio.to_thread(connection._thread.join)
            raise StoreError(f"cannot open {database}: {error}") from error
        connection.text_factory = _leniently
        return cls(connection)

    @classmethod
    async def read_only(cls, database: Path) -> "SqliteThread":
        """Open the database to read only: even when closed last, it checkpoints nothing."""
        return await cls.connect(f"{database.as_uri()}?mode=ro", uri=True)

    @classmethod
    async def immutable(cls, database: Path) -> "SqliteThread":
        """Open the database file alone: without its log, without a lock, and writing nothing."""
        return await cls.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True)

    def submit(self, function: Callable[..., R], *args: Any) -> asyncio.Future[R]:
        """Queue `function(connection, *args)` for the thread, which runs calls in order.

        Cancelling the future does not cancel the call.
        """
        if not self._open:
            raise StoreError("the store is closed")
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        call = partial(call_translating_errors, function, self._connection._conn, *args)
        self._connection._tx.put_nowait((result, call))
        return result

    async def run(self, function: Callable[..., R], *args: Any) -> R:
        """Call `function(connection, *args)` on the thread; what it returns."""
        return await self.submit(function, *args)

    async def run_and_close(self, function: Callable[..., R], *args: Any) -> R:
        """Call it as `run` does, then close the connection.

        Cancelling this interrupts the statement that is running.
        """
        try:
            return await self.run(function, *args)
        except asyncio.CancelledError:
            await self._connection.interrupt()
            raise
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connection after the calls in the queue; ignore errors of a broken one."""
        self._open = False
        with contextlib.suppress(sqlite3.Error, ValueError):
            await self._connection.close()


def call_translating_errors(function: Callable[..., R], db: sqlite3.Connection, *args: Any) -> R:
    """Call the function; raise SQLite's errors about the file as StoreError."""
    try:
        return function(db, *args)
    except _OUR_MISTAKES:
        raise
    except sqlite3.Error as error:
        raise StoreError(f"{function.__name__.strip('_')}: {_described(error)}") from error


def _leniently(text: bytes) -> str:
    """Decode text. A flipped bit must not make the rest of a page unreadable."""
    return text.decode(errors="replace")


def _described(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", None)
    return f"{error} ({code})" if code else str(error)


def make_durable(db: sqlite3.Connection) -> None:
    """Set that each commit is synced, and read it back. Raises SettingError if it is not so.

    On macOS an fsync leaves the disk's own cache as it is; there a full one is asked for, and
    elsewhere that changes nothing (https://sqlite.org/pragma.html#pragma_fullfsync).
    """
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute("PRAGMA synchronous = FULL")
    synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
    for pragma in _FULL_FSYNCS:
        db.execute(f"PRAGMA {pragma} = ON")
    full = all(db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in _FULL_FSYNCS)
    if not full:
        raise SettingError(f"store: SQLite does not take {' and '.join(_FULL_FSYNCS)}")
    if (mode, synchronous) != ("wal", _FULL):
        raise SettingError(
            f"store: SQLite answers journal_mode={mode}, synchronous={synchronous} where wal and "
            f"{_FULL} are needed; network file systems cannot do that"
        )


def checkpoint(db: sqlite3.Connection) -> None:
    """Copy the log into the database as far as readers allow: it is on the disk already.

    A long reader, a backup or Litestream, keeps later commits from being copied. Where none does,
    the next commit begins the log anew.
    """
    db.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_TIMEOUT}")
    db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    db.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")


def prove_writing(db: sqlite3.Connection) -> None:
    """Commit a page, and sync it: the schema's version, as it was.

    An UPDATE that changes nothing would write no page; nor does a checkpoint of an empty log. If
    the log begins anew with it, it is cut off behind it, for it may have grown large.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.execute("PRAGMA journal_size_limit = 0").fetchone()
    db.execute(f"PRAGMA user_version = {version}")
    db.execute("PRAGMA journal_size_limit = -1").fetchone()


@contextmanager
def immediate_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A transaction of the plugin's own, all or nothing: its schema, its indexes.

    The store's transactions begin and commit in `transaction.py`.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


class MultiRowStatement:
    """A statement written for one row, `(?, ?)`, and run for many rows at a time.

    `sqlite3` gives Python's lock away for each statement and must get it back after it, in turn
    with the event loop. `executemany` does that a row; this does it a few times for a thousand.

    A statement keeps copies of its rows until its next use: `most` keeps those of large rows few.
    """

    def __init__(self, statement: str, most: int = _ROWS[0]) -> None:
        (row,) = _ROW.findall(statement)
        self._statements = [
            (rows, statement.replace(row, ", ".join([row] * rows)))
            for rows in _ROWS
            if rows <= most
        ]

    def __call__(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> list[Any]:
        """Run it for these rows; what they return, in no particular order."""
        returned: list[Any] = []
        done = 0
        for count, statement in self._statements:
            while len(rows) - done >= count:
                some = rows[done : done + count]
                returned += db.execute(statement, tuple(chain.from_iterable(some)))
                done += count
        return returned


class UnreadableRow(ValueError):
    """SQLite finds damage where a row should be (SQLITE_CORRUPT)."""


@contextmanager
def detecting_corruption() -> Iterator[None]:
    """Raise UnreadableRow if SQLite finds damage within the block."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise UnreadableRow(error) from error
        raise  # any other error may be gone next time


def read_row(db: sqlite3.Connection, statement: str, seq: int) -> Any:
    """The row that the statement finds for that seq, if any. Raises UnreadableRow."""
    with detecting_corruption():
        return db.execute(statement, (seq,)).fetchone()


@dataclass
class UnreadableRows:
    """What the writer could not read, and does not try to read again before the next start.

    SQLite commits nothing more in a transaction in which it has found damage. So that costs one
    batch, and not every batch that asks for the same row.
    """

    blocks: set[int] = field(default_factory=set)  # by first seq
    levels: set[int] = field(default_factory=set)  # of runs that are not compacted any more
    runs: set[int] = field(default_factory=set)  # by id: replaced ones, whose pages stay
