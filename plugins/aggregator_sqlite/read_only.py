"""The store where nothing is written: beside a service that writes, or where nobody can."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aggregator.errors import KeySpecDiffers, SettingError, StoreError
from aggregator_sqlite import read
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.files import WriterLock, database_exists
from aggregator_sqlite.key_index import KeysInFile
from aggregator_sqlite.mark import last_seq_without_log
from aggregator_sqlite.schema import check_version, read_key_spec
from aggregator_sqlite.sums import check_counters
from aggregator_sqlite.wal import WriteAheadLog

log = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(frozen=True)
class _Opened:
    """A connection, and what the files were like when it was made."""

    reader: SqliteThread
    hidden: int
    """Commits in the log that it does not show."""
    stamp: tuple[object, ...]


class ReadOnlyFile:
    """Reads the database through a connection that cannot write, opened anew when it has to be.

    While a service has the database open, or a log is there, an ordinary connection reads both. It
    needs SQLite's index of the log, `-shm`, and makes one where there is none. Without a log, or
    where that index cannot be made, the file is read alone, as immutable: nothing is made and
    nothing locked. That is right for as long as nobody writes to it; what was read while somebody
    did is read again.
    """

    def __init__(self, database: Path, wal: WriteAheadLog, lock: WriterLock) -> None:
        self._database = database
        self._wal = wal
        self._lock = lock
        self._opening = asyncio.Lock()
        self._opened: _Opened | None = None
        self.keys = KeysInFile()

    @property
    def hidden(self) -> int:
        """Commits in the log that are not shown."""
        return self._opened.hidden if self._opened else 0

    async def open(self, key_spec: str) -> None:
        """Open it, and tell in the log what cannot be shown. Raises SettingError, StoreError."""
        if not database_exists(self._database):
            raise SettingError(f"store: there is none yet: {self._database}")
        if not self._lock.is_held():
            await self._tell_of_losses()
        kept = await self.run(_key_spec)
        if kept is None:
            raise SettingError(f"store: there is none yet: {self._database}")
        if kept != key_spec:
            raise KeySpecDiffers(kept, key_spec)
        try:
            await self.run(check_counters)
        except StoreError as error:
            log.error("%s", error)

    async def run(self, function: Callable[..., R], *args: Any) -> R:
        """Call `function(connection, *args)`, once more where the file was changed meanwhile."""
        while True:
            opened = await self._current()
            try:
                found = await opened.reader.run(function, *args)
            except StoreError:
                if self._is_current(opened):
                    raise
            else:
                if self._is_current(opened):
                    return found

    async def close(self) -> None:
        """Close the connection."""
        if self._opened:
            await self._opened.reader.close()
        self._opened = None

    async def _current(self) -> _Opened:
        async with self._opening:
            if self._opened is None or not self._is_current(self._opened):
                await self.close()
                self._opened = await self._open()
                if self._opened.hidden:
                    log.warning("%d commits in the log are not shown", self._opened.hidden)
            return self._opened

    def _is_current(self, opened: _Opened) -> bool:
        return opened is self._opened and opened.stamp == self._stamp(len(opened.stamp) == 1)

    async def _open(self) -> _Opened:
        reason: StoreError | None = None
        if self._lock.is_held() or not self._wal.is_missing:
            try:
                return await self._connect(SqliteThread.read_only, 0, is_shared=True)
            except StoreError as error:
                reason = error
        hidden = await asyncio.to_thread(self._wal.count_hidden)
        if hidden is None:
            raise StoreError(
                f"{reason}; and without its log the file is in the middle of a checkpoint: read it "
                "where its log can be read too, from a copy of all its files say"
            )
        return await self._connect(SqliteThread.immutable, hidden, is_shared=False)

    async def _connect(
        self, connect: Callable[[Path], Any], hidden: int, *, is_shared: bool
    ) -> _Opened:
        stamp = self._stamp(is_shared)
        reader: SqliteThread = await connect(self._database)
        try:
            await reader.run(read.span)  # SQLite opens the file at the first read
        except BaseException:
            await reader.close()
            raise
        return _Opened(reader, hidden, stamp)

    def _stamp(self, is_shared: bool) -> tuple[object, ...]:
        """What changes when the file is replaced; if it is not shared, when anything is written."""
        try:
            found = self._database.stat()
        except OSError as error:
            raise StoreError(f"{self._database} cannot be reached: {error.strerror}") from error
        if is_shared:
            return (found.st_ino,)
        return found.st_ino, found.st_size, found.st_mtime_ns, self._wal.stamp

    async def _tell_of_losses(self) -> None:
        """What would stop an ordinary start: here nothing is built on it."""
        damage = await asyncio.to_thread(self._wal.find_damage)
        if damage:
            log.error(
                "the log is damaged: about %d commits behind byte %d of it are not shown. An "
                "ordinary start says what to do",
                damage.lost,
                damage.end,
            )
        if (last_seq := await last_seq_without_log(self._database, self._wal)) is not None:
            log.error(
                "the log is missing: what was committed last may be missing with it, after seq %d. "
                "An ordinary start says what to do",
                last_seq,
            )


def _key_spec(db: sqlite3.Connection) -> str | None:
    kept = read_key_spec(db)
    if kept is not None:
        check_version(db)
    return kept
