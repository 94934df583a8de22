"""The store in one SQLite file: one connection that writes and checkpoints, two that read."""

import asyncio
import itertools
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aggregator.errors import SettingError, StoreError
from aggregator.settings import masked
from aggregator.store import Counters, Page, Query, Store, StoredEvent, StoreTransaction
from aggregator_sqlite import reading
from aggregator_sqlite.files import Files
from aggregator_sqlite.lock import Lock
from aggregator_sqlite.schema import check_owner, check_recipe, migrate
from aggregator_sqlite.thread import Thread
from aggregator_sqlite.transaction import SqliteTransaction

_SCHEME = "sqlite:///"
_OLDEST = (3, 35, 0)  # UPDATE … RETURNING
_BUSY_TIMEOUT = 5.0  # seconds; a backup such as Litestream's takes the lock for moments
_READERS = 2
_PAUSE = 0.05  # seconds
_FULL = 2

PROVE_WRITING = "UPDATE counters SET last_seq = last_seq"


class SqliteStore(Store):
    """`sqlite:///data/aggregator.db` is relative, `sqlite:////var/lib/aggregator.db` absolute."""

    def __init__(self, url: str) -> None:
        if not url.startswith(_SCHEME) or "?" in url or not url.removeprefix(_SCHEME):
            raise SettingError(
                f"store: {masked('store', url)!r} should be sqlite:///relative/path.db or sqlite:////absolute/path.db"
            )
        if sqlite3.sqlite_version_info < _OLDEST:
            raise SettingError(f"store: SQLite {sqlite3.sqlite_version} is too old; 3.35 is needed")
        super().__init__(url)
        self.path = Path(os.path.realpath(url.removeprefix(_SCHEME)))
        self._lock = Lock(self.path)
        self._turn = asyncio.Lock()
        self._recipe = ""
        self._writer: Thread | None = None
        self._readers: list[Thread] = []
        self._turns = itertools.count()
        self._files: Files | None = None

    async def open(self, recipe: str) -> None:
        """Take the lock, bring the schema up to date, and make durable what is in the log."""
        self._recipe = recipe
        await asyncio.to_thread(self._make_folder)
        self._lock.take()
        try:
            await self._open_writer()
            await self._open_readers()
            self._files = Files(self.path)
        except StoreError as error:
            await self.close()
            raise StoreError(f"store: {self.path}: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def reopen(self) -> None:
        """A new writer and a checkpoint; the lock is kept, and readers go on meanwhile."""
        async with self._turn:
            if self._files is None:
                raise StoreError("the store is not open")
            self._files.check()
            await self._close_writer()
            self._files.closed()
            await self._open_writer()
            self._files.opened()

    async def close(self) -> None:
        """Close the readers, then the writer, which checkpoints for the last time."""
        self._files = None
        while self._readers:
            await self._readers.pop().close()
        await self._close_writer()
        self._lock.release()

    def about(self) -> str:
        """For the operator: the version matters, some have bugs that lose data."""
        return f"SQLite {sqlite3.sqlite_version} in {self.path}"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        """Commits with an fsync; the next one waits."""
        async with self._turn:
            if self._writer is None:
                raise StoreError("the store is not open")
            if self._files:
                self._files.check()
            tx = SqliteTransaction(self._writer)
            try:
                yield tx
                await tx.commit()
            except BaseException:
                await tx.roll_back()
                raise

    async def events(self, query: Query) -> Page:
        """One page of committed events."""
        return await self._reader.run(reading.page, query)

    async def find(self, key: bytes) -> StoredEvent | None:
        """The committed event that holds the key."""
        return await self._reader.run(reading.find, key)

    async def counters(self) -> Counters:
        """The committed counters."""
        return await self._reader.run(reading.counters)

    async def topics(self, limit: int) -> list[str]:
        """The first names of topics."""
        return await self._reader.run(reading.topics, limit)

    @property
    def _reader(self) -> Thread:
        if not self._readers:
            raise StoreError("the store is not open")
        return self._readers[next(self._turns) % len(self._readers)]

    def _make_folder(self) -> None:
        """Make the folder, and its name as durable as the file that SQLite will put into it."""
        folder = self.path.parent
        try:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for path in missing:
                parent = os.open(path.parent, os.O_RDONLY)
                os.fsync(parent)
                os.close(parent)
        except OSError as error:
            reason = error.strerror
            raise SettingError(f"store: cannot make the folder {folder}: {reason}") from error

    async def _open_writer(self) -> None:
        writer = await Thread.connect(str(self.path), timeout=_BUSY_TIMEOUT)
        try:
            await writer.run(_prepare, self._recipe)
        except BaseException:
            await writer.close()
            raise
        self._writer = writer

    async def _close_writer(self) -> None:
        if self._writer:
            await self._writer.close()
        self._writer = None

    async def _open_readers(self) -> None:
        for _ in range(_READERS):
            reader = await Thread.connect(
                f"{self.path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT
            )
            self._readers.append(reader)
            await reader.run(_read_leniently)


def _prepare(db: sqlite3.Connection, recipe: str) -> None:
    """Settings that make a commit durable, read back; the schema; and an empty log.

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
    _read_leniently(db)
    migrate(db)
    check_recipe(db, recipe)
    db.execute(PROVE_WRITING)
    _checkpoint(db)


def _checkpoint(db: sqlite3.Connection) -> None:
    """Copy the whole log into the file. Raises StoreError if another connection is in the way.

    A reader elsewhere may keep the log from being emptied: what counts is that all is copied.
    Where another connection checkpoints, SQLite says so at once, with -1 for both numbers.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT
    while True:
        is_busy, logged, copied = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy or 0 <= logged == copied:
            return
        if time.monotonic() > deadline:
            raise StoreError("checkpoint: another connection holds the log")
        time.sleep(_PAUSE)


def _read_leniently(db: sqlite3.Connection) -> None:
    """Text that a flipped bit has made unreadable must not hide the events around it."""
    db.text_factory = lambda text: text.decode(errors="replace")
