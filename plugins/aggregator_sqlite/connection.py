"""Connections to the database: their threads and PRAGMAs, transactions, statements and rows."""

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
BUSY_TIMEOUT = 5.0  # seconds; a backup such as Litestream's takes the lock for moments
_PATIENCE = 500  # milliseconds; a page is read in less
_FULL = 2
_OUR_MISTAKES = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
_ROWS = (1024, 256, 64, 16, 8, 4, 3, 2, 1)  # in a statement
_ROW = re.compile(r"\(\?(?:, \?)*\)")


class SqliteThread:
    """One connection with a thread of its own, and functions run on it, one hop each.

    What SQLite says of trouble with the file is raised as StoreError.

    This is the only place that uses private names of aiosqlite: `_tx` is the queue of what its
    thread runs, to which nothing public adds a function of ours; `_thread` is that thread. Without
    the first each statement is a hop of its own; with it most batches take one. A test fails should
    the names ever go or change.
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
            # Its thread has one thing more to tell, and would find the event loop closed.
            await asyncio.to_thread(connection._thread.join)
            raise StoreError(f"cannot open {database}: {error}") from error
        connection.text_factory = _leniently
        return cls(connection)

    @classmethod
    async def read_only(cls, database: Path) -> "SqliteThread":
        """Open the database to read. Such a connection makes no checkpoint when it is closed."""
        return await cls.connect(f"{database.as_uri()}?mode=ro", uri=True)

    def submit(self, function: Callable[..., R], *args: Any) -> asyncio.Future[R]:
        """Have `function(connection, *args)` called on the thread, after what it was given before.

        Cancelling the future does not cancel the call.
        """
        if not self._open:
            raise StoreError("the store is closed")
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        call = partial(call_translating_errors, function, self._connection._conn, *args)
        self._connection._tx.put_nowait((result, call))
        return result

    async def run(self, function: Callable[..., R], *args: Any) -> R:
        """What the call of `submit` returns."""
        return await self.submit(function, *args)

    async def run_and_close(self, function: Callable[..., R], *args: Any) -> R:
        """Call it as `run` does, as the last thing on this connection, which is closed after it.

        Cancelling the wait ends the statement that is under way.
        """
        try:
            return await self.run(function, *args)
        except asyncio.CancelledError:
            await self._connection.interrupt()
            raise
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connection after what is under way; a broken one as far as it goes."""
        self._open = False
        with contextlib.suppress(sqlite3.Error, ValueError):
            await self._connection.close()


def call_translating_errors(function: Callable[..., R], db: sqlite3.Connection, *args: Any) -> R:
    """What the function returns, or its trouble with the file as StoreError."""
    try:
        return function(db, *args)
    except _OUR_MISTAKES:
        raise
    except sqlite3.Error as error:
        raise StoreError(f"{function.__name__.strip('_')}: {_described(error)}") from error


def _leniently(text: bytes) -> str:
    """Text that a flipped bit has made unreadable must not hide the events around it."""
    return text.decode(errors="replace")


def _described(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", None)
    return f"{error} ({code})" if code else str(error)


def make_durable(db: sqlite3.Connection) -> None:
    """Have each commit synced. Raises SettingError where SQLite answers that it does not."""
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute("PRAGMA synchronous = FULL")
    synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, synchronous) != ("wal", _FULL):
        raise SettingError(
            f"store: SQLite answers journal_mode={mode}, synchronous={synchronous} where wal and "
            f"{_FULL} are needed; network file systems cannot do that"
        )


def checkpoint(db: sqlite3.Connection) -> None:
    """Copy the log into the file as far as nobody is in the way: it is on the disk already.

    Who reads for long, a backup or Litestream, keeps what was committed since from being copied.
    """
    db.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")


def prove_writing(db: sqlite3.Connection) -> None:
    """Write the schema's version again: a commit that writes a page, and syncs it.

    An UPDATE that changes nothing does neither, nor does a checkpoint of an empty log.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.execute(f"PRAGMA user_version = {version}")


@contextmanager
def immediate_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction, for what is written outside of a store's: all of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


class MultiRowStatement:
    """A statement that is given about one row, which stands there as `(?, ?)`, and run about many.

    While SQLite runs a statement, Python's other threads go on, and it waits for them before the
    next one. An `executemany` runs a statement a row.

    A statement holds copies of its rows, and until its next use: large ones are to be few.
    """

    def __init__(self, statement: str, most: int = _ROWS[0]) -> None:
        (row,) = _ROW.findall(statement)
        self._statements = [
            (rows, statement.replace(row, ", ".join([row] * rows)))
            for rows in _ROWS
            if rows <= most
        ]

    def __call__(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> list[Any]:
        """Run it about these rows; what it returns, in no order."""
        returned: list[Any] = []
        done = 0
        for count, statement in self._statements:
            while len(rows) - done >= count:
                some = rows[done : done + count]
                returned += db.execute(statement, tuple(chain.from_iterable(some)))
                done += count
        return returned


class UnreadableRow(ValueError):
    """What SQLite has found where a row is makes no sense to it."""


@contextmanager
def detecting_corruption() -> Iterator[None]:
    """Raises UnreadableRow where SQLite says so of what is read within."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise UnreadableRow(error) from error
        raise  # all else may be better next time


def read_row(db: sqlite3.Connection, statement: str, seq: int) -> Any:
    """The row that the statement finds for that seq, or None. Raises UnreadableRow."""
    with detecting_corruption():
        return db.execute(statement, (seq,)).fetchone()


@dataclass
class UnreadableRows:
    """What the writer could not read, and leaves alone until the service is started again.

    Within a transaction SQLite commits nothing after that. So it costs one batch, and not each in
    which somebody asks for it again.
    """

    blocks: set[int] = field(default_factory=set)  # by their first seqs
    levels: set[int] = field(default_factory=set)  # of runs that are not merged
    runs: set[int] = field(default_factory=set)  # that have gone, by their ids: their leaves stay
