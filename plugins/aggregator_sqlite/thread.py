"""A SQLite connection with a thread of its own, and functions run on it, one hop each.

This is the only place that uses private names of aiosqlite: `_tx` is the queue of what its thread
runs, to which nothing public adds a function of ours; `_thread` is that thread. Without the first
each statement is a hop of its own; with it most batches take one. A test fails should the names
ever go or change.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import aiosqlite

from aggregator.errors import StoreError

R = TypeVar("R")

_OUR_MISTAKES = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class Thread:
    """One connection. What SQLite says of trouble with the file is raised as StoreError."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._open = True

    @classmethod
    async def connect(cls, database: str, **options: Any) -> "Thread":
        """Open the database; the options are those of `sqlite3.connect`."""
        connection = aiosqlite.connect(database, isolation_level=None, **options)
        try:
            await connection
        except sqlite3.Error as error:
            # Its thread has one thing more to tell, and would find the event loop closed.
            await asyncio.to_thread(connection._thread.join)
            raise StoreError(f"cannot open {database}: {error}") from error
        connection.text_factory = _leniently
        return cls(connection)

    def hand_over(self, function: Callable[..., R], *args: Any) -> asyncio.Future[R]:
        """Have `function(connection, *args)` called on the thread, after what it was given before.

        Cancelling the future does not cancel the call.
        """
        if not self._open:
            raise StoreError("the store is closed")
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        call = partial(called, function, self._connection._conn, *args)
        self._connection._tx.put_nowait((result, call))
        return result

    async def run(self, function: Callable[..., R], *args: Any) -> R:
        """What the call of `hand_over` returns."""
        return await self.hand_over(function, *args)

    async def run_alone(self, function: Callable[..., R], *args: Any) -> R:
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


def called(function: Callable[..., R], db: sqlite3.Connection, *args: Any) -> R:
    """What the function returns, or its trouble with the file as StoreError."""
    try:
        return function(db, *args)
    except _OUR_MISTAKES:
        raise
    except sqlite3.Error as error:
        raise StoreError(f"{function.__name__.strip('_')}: {_told(error)}") from error


def _leniently(text: bytes) -> str:
    """Text that a flipped bit has made unreadable must not hide the events around it."""
    return text.decode(errors="replace")


def _told(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", None)
    return f"{error} ({code})" if code else str(error)
