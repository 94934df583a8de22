"""The store in one SQLite file: opened, closed and, after a failure, proved again.

One connection writes and checkpoints, two read. Transactions are in `transaction.py`.
"""

import asyncio
import itertools
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from aggregator.core.fault_log import Seldom
from aggregator.core.redact import redact
from aggregator.errors import SettingError, StoreError
from aggregator.store import (
    BacksUp,
    Backup,
    Checked,
    ChecksItself,
    Content,
    Counters,
    History,
    IndexesFields,
    KeepsHistory,
    KeepsQuarantine,
    Measured,
    MeasuresItself,
    NewestSeq,
    OpensReadOnly,
    Page,
    QuarantinePage,
    QuarantineQuery,
    Query,
    Span,
    StoredEvent,
    Topic,
)
from aggregator_sqlite import fields, key_index, quarantine, read, runs
from aggregator_sqlite.backup import back_up
from aggregator_sqlite.check import check
from aggregator_sqlite.connection import (
    SqliteThread,
    UnreadableRows,
    immediate_transaction,
    make_durable,
)
from aggregator_sqlite.files import (
    OpenFiles,
    WriterLock,
    check_names,
    database_exists,
    make_folder,
    unreadable,
    way_to_read,
)
from aggregator_sqlite.key_index import KeyFilter, KeyIndex, warm_up
from aggregator_sqlite.mark import (
    accept_missing_log,
    check_mark,
    clear_copied_mark,
    clear_mark,
    set_mark,
)
from aggregator_sqlite.read_only import ReadOnlyFile
from aggregator_sqlite.runs import Run
from aggregator_sqlite.schema import check_key_spec, check_owner, migrate, read_key_spec
from aggregator_sqlite.sums import check_counters
from aggregator_sqlite.transaction import SqliteTransaction
from aggregator_sqlite.wal import WriteAheadLog

log = logging.getLogger(__name__)

_SCHEME = "sqlite:///"
_OLDEST = (3, 35, 0)  # UPDATE … RETURNING
_READERS = 2
_EARLY = 256, 2, 256  # keys in memory, runs of a level, keys of a step


class SqliteStore(
    KeepsHistory,
    KeepsQuarantine,
    IndexesFields,
    OpensReadOnly,
    BacksUp,
    ChecksItself,
    MeasuresItself,
):
    """`sqlite:///data/aggregator.db` is relative, `sqlite:////var/lib/aggregator.db` absolute."""

    def __init__(self, url: str) -> None:
        if not url.startswith(_SCHEME) or "?" in url or not url.removeprefix(_SCHEME):
            raise SettingError(
                f"store: {redact('store', url)!r} should be sqlite:///relative/path.db or sqlite:////absolute/path.db"
            )
        if sqlite3.sqlite_version_info < _OLDEST:
            raise SettingError(f"store: SQLite {sqlite3.sqlite_version} is too old; 3.35 is needed")
        super().__init__(url)
        self.path = Path(os.path.realpath(url.removeprefix(_SCHEME)))
        self._lock = WriterLock(self.path)
        self._wal = WriteAheadLog(self.path)
        self._transaction_lock = asyncio.Lock()
        self._newest = NewestSeq()
        self._key_spec = ""
        self._pointers: fields.Pointers = ()
        self._filter = KeyFilter()
        self._unreadable = UnreadableRows()
        self._index: KeyIndex | None = None
        self._warm_up: asyncio.Task[None] | None = None
        self._writer: SqliteThread | None = None
        self._readers: list[SqliteThread] = []
        self._reader_numbers = itertools.count()
        self._files: OpenFiles | None = None
        self._read_only: ReadOnlyFile | None = None
        self._progress = Seldom(pause=5.0)

    def grow_early(self) -> None:
        """Make and merge runs of keys from the first events on, in the whole process."""
        key_index.KEYS_IN_MEMORY, runs.RUNS_PER_LEVEL, runs.KEYS_PER_STEP = _EARLY

    def measure(self) -> Measured:
        """Its files, and the room on their disk; the last seq is that of our own last commit."""
        parts = {"database": self.path, "log": self.path.with_name(f"{self.path.name}-wal")}
        sizes: dict[str, int] = {}
        free = None
        with suppress(OSError):  # the disk fails: then what else there is to tell matters more
            sizes = {part: path.stat().st_size for part, path in parts.items() if path.exists()}
            disk = os.statvfs(self.path.parent)
            free = disk.f_bavail * disk.f_frsize
        return Measured(self._newest.seq, sizes, free)

    async def key_spec(self) -> str | None:
        """The key spec that the file keeps, read on a connection that cannot write."""
        if not database_exists(self.path):
            return None
        if not self._lock.is_held():
            await asyncio.to_thread(self._wal.check)
            await check_mark(self.path, self._wal)
        try:
            reader = await SqliteThread.read_only(self.path)
            return await reader.run_and_close(read_key_spec)
        except StoreError as error:
            raise unreadable(self.path, error) from error

    async def open(self, key_spec: str, replaces: str | None = None) -> None:
        """Take the lock, make the log durable, bring schema and index of keys up to date."""
        self._key_spec = key_spec
        self._filter, self._unreadable = KeyFilter(), UnreadableRows()
        try:
            await asyncio.to_thread(make_folder, self.path.parent)
            self._take_lock()
            check_names(self.path)
            self.doing = "checking the log"
            # While nobody has the database open: SQLite drops what it cannot read in the log.
            await asyncio.to_thread(self._wal.check)
            await check_mark(self.path, self._wal)
            await self._open_writer(replaces)
            assert self._writer
            self._pointers = await self._writer.run(fields.indexed)
            await self._open_readers()
            self._files = OpenFiles(self.path)
            self._start_warm_up()
        except StoreError as error:
            await self.close()
            way = way_to_read(self.path)
            raise StoreError(f"store: {self.path}: {error}{way}") from error
        except BaseException:
            await self.close()
            raise

    async def open_read_only(self, key_spec: str) -> None:
        """Take no lock, make no folder, set no mark."""
        self._read_only = ReadOnlyFile(self.path, self._wal, self._lock)
        self.is_shared = True
        try:
            await self._read_only.open(key_spec)
        except StoreError as error:
            await self.close()
            raise StoreError(f"store: {self.path}: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def index(self, pointers: Sequence[str]) -> None:
        """A part at a time: a start that is stopped goes on from there next time."""
        async with self._changing_index() as writer:
            newest = (await writer.run(read.span)).newest
            await writer.run(fields.set_pointers, pointers)
            while (seq := await writer.run(fields.build_some, pointers)) is not None:
                self._tell(
                    f"making the index of {', '.join(pointers)}: event {seq:,} of {newest:,}"
                )

    async def indexed(self) -> list[str]:
        """Those in the file, as the writer was told last."""
        return [where for _, where in self._pointers]

    async def drop_index(self, pointers: Sequence[str]) -> None:
        """A part at a time; where it is stopped, the index is incomplete, and nothing uses it."""
        async with self._changing_index() as writer:
            while await writer.run(fields.remove_some, pointers):
                self._tell(f"removing the index of {', '.join(pointers)}")

    @asynccontextmanager
    async def _changing_index(self) -> AsyncIterator[SqliteThread]:
        if self._writer is None:
            raise StoreError("the store is not open")
        try:
            yield self._writer
            self._pointers = await self._writer.run(fields.indexed)
        except StoreError as error:
            raise StoreError(f"store: {self.path}: {error}") from error
        finally:
            self.doing = ""

    def _tell(self, doing: str) -> None:
        """Say what is going on, in the log now and then."""
        self.doing = doing
        if self._progress.told("") is not None:
            log.info("%s", doing)

    async def changed(self, after: int) -> int:
        """Only this process stores events here, unless it only reads."""
        if self._read_only:
            return await super().changed(after)
        return await self._newest.wait(after)

    async def reopen(self) -> None:
        """Open a new writer, which proves the store again as a start does, after a failure.

        After a failed fsync it is not known what of the log is on the disk: what can be read may be
        in the page cache only. `_prepare` writes the log again before anything is built on it. The
        lock is kept, and readers go on meanwhile: without them SQLite would, as the writer closes,
        copy that log into the database and remove it.
        """
        async with self._transaction_lock:
            if self._files is None:
                raise StoreError("the store is not open")
            self._files.check()
            await self._close_writer()
            self._files.closed()
            await self._open_writer()
            self._files.opened()

    async def close(self) -> None:
        """Clear the mark; close the readers, then the writer, which as the last one checkpoints.

        Where the mark cannot be cleared, the writer is not the last one: the log stays.
        """
        self._files = None
        if self._warm_up:
            self._warm_up.cancel()
            await asyncio.wait({self._warm_up})
        self._warm_up = None
        if self._read_only:
            await self._read_only.close()
        self._read_only = None
        if not await self._clear_mark():
            await self._close_writer()
        while self._readers:
            await self._readers.pop().close()
        await self._close_writer()
        self._lock.release()

    def _take_lock(self) -> None:
        try:
            self._lock.take()
        except SettingError as error:
            raise SettingError(f"{error}{way_to_read(self.path)}") from error

    async def _clear_mark(self) -> bool:
        try:
            if self._writer:
                await self._writer.run(clear_mark)
        except StoreError as error:
            log.warning("the end is not clean, and the next start needs the log: %s", error)
            return False
        return self._writer is not None

    async def backup(self, destination: Path) -> Backup:
        """Copy what is committed when the copy begins, on a connection that cannot write."""
        if await self.key_spec() is None:
            raise SettingError(f"store: there is none yet: {self.about()}")
        if self._wal.is_expected:
            check_names(self.path)
        return await back_up(self.path, destination)

    async def check(self) -> Checked:
        """Read everything on a connection that cannot write."""
        if await self.key_spec() is None:
            raise SettingError(f"store: there is none yet: {self.about()}")

        def tell(doing: str) -> None:
            self.doing = doing

        try:
            return await check(self.path, tell, is_running=self._lock.is_held())
        finally:
            self.doing = ""

    async def accept_missing_log(self) -> int | None:
        """Clear the mark, under the lock."""
        if not database_exists(self.path):
            raise SettingError(f"store: there is none yet: {self.about()}")
        self._lock.take()
        try:
            return await accept_missing_log(self.path, self._wal)
        finally:
            self._lock.release()

    def about(self) -> str:
        """The file, and SQLite's version: some versions have bugs that lose data."""
        about = f"SQLite {sqlite3.sqlite_version} in {self.path}"
        if self._read_only:
            hidden = self._read_only.hidden
            about += ", read only" + (f", without {hidden} commits in its log" if hidden else "")
        return about

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteTransaction]:
        """One at a time. Commits when the block ends, rolls back when it raises."""
        async with self._transaction_lock:
            if self._writer is None or self._index is None:
                raise StoreError("the store is not open")
            if self._files:
                self._files.check()
            tx = SqliteTransaction(self._writer, self._index, self._pointers)
            try:
                yield tx
                await tx.commit()
                self._newest.advance(self._index.last_seq)
            except BaseException:
                await tx.roll_back()
                raise

    async def events(self, query: Query) -> Page:
        """One page of committed events."""
        return await self._reader.run(read.page, query)

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events."""
        return await self._reader.run(read.contents, seqs)

    async def find(self, name: bytes, limit: int, source: str | None = None) -> list[StoredEvent]:
        """The first events with that key or name."""
        index = self._read_only.keys if self._read_only else self._index
        return await self._reader.run(read.find, index, name, limit, source)

    async def history(self, seq: int, limit: int) -> History:
        """What came again under its key."""
        return await self._reader.run(read.history, seq, limit)

    async def span(self) -> Span:
        """The seqs from the oldest event to the newest."""
        return await self._reader.run(read.span)

    async def counters(self) -> Counters:
        """The committed counters."""
        return await self._reader.run(read.counters)

    async def topics(self, after: str, limit: int) -> list[Topic]:
        """Topics by name."""
        return await self._reader.run(read.topics, after, limit)

    async def quarantined(self, query: QuarantineQuery) -> QuarantinePage:
        """One page of what is in quarantine."""
        return await self._reader.run(quarantine.page, query)

    @property
    def _reader(self) -> SqliteThread | ReadOnlyFile:
        if self._read_only:
            return self._read_only
        if not self._readers:
            raise StoreError("the store is not open")
        return self._readers[next(self._reader_numbers) % len(self._readers)]

    async def _open_writer(self, replaces: str | None = None) -> None:
        async with self._preventing_checkpoint_on_close():
            writer = await SqliteThread.connect(str(self.path))
            is_proved = False
            try:
                await writer.run(_prepare, self._wal, self._key_spec, replaces)
                is_proved = True
                await writer.run(check_counters)
                index = await writer.run(KeyIndex, self._filter, self._unreadable)
                self._filter.is_complete |= not index.state.runs
                while await writer.run(index.read_some):
                    reached = f"event {index.read_to:,} of {index.last_seq:,}"
                    self._tell(f"making the index of keys: {reached}")
            except BaseException as error:
                # Where SQLite failed, in a sync say, it is not known what is on the disk.
                is_proved &= not isinstance(error.__cause__, sqlite3.Error)
                await self._close_failed(writer, is_proved=is_proved)
                raise
            finally:
                self.doing = ""
        self._writer, self._index = writer, index
        self._newest.advance(index.last_seq)

    async def _close_failed(self, writer: SqliteThread, *, is_proved: bool) -> None:
        """Keep the log; or clear the mark, if all is on the disk, for a repair may open the file.

        What `sqlite3` opens and closes has no log any more.
        """
        if is_proved:
            with suppress(StoreError):
                await writer.run(clear_mark)
                return await writer.close()
        try:
            async with self._preventing_checkpoint_on_close():  # there may be a log now
                await writer.close()
        except StoreError:  # no more files can be opened, say; what made the start fail is raised
            with suppress(StoreError):
                await writer.run(clear_mark)
            await writer.close()

    @asynccontextmanager
    async def _preventing_checkpoint_on_close(self) -> AsyncIterator[None]:
        """Hold a read-only connection, so that the writer is not the last one if it fails.

        SQLite copies the log into the database when the last connection closes, if that can write:
        a log that could not be synced must not get there. Where a journal lies beside the log there
        is no such connection, which could not roll it back. None is needed: only a first start that
        was cut off leaves both, and nothing in that log was acknowledged.
        """
        if not self._wal.has_content or self._wal.has_journal:
            yield
            return
        guard = await SqliteThread.read_only(self.path)
        try:
            await guard.run(read_key_spec)
            yield
        finally:
            await guard.close()

    def _start_warm_up(self) -> None:
        def runs() -> Sequence[Run]:
            return self._index.state.runs if self._index else ()

        connect = partial(SqliteThread.read_only, self.path)
        self._warm_up = asyncio.create_task(warm_up(self._filter, runs, connect), name="warm-up")

    async def _close_writer(self) -> None:
        if self._writer:
            await self._writer.close()
        self._writer = None

    async def _open_readers(self) -> None:
        for _ in range(_READERS):
            reader = await SqliteThread.read_only(self.path)
            self._readers.append(reader)
            # SQLite opens the file at the first read. From now on the writer is not the last one.
            await reader.run(read.span)


def _prepare(
    db: sqlite3.Connection, wal: WriteAheadLog, key_spec: str, replaces: str | None
) -> None:
    """Make the writer ready: whatever it can read is on the disk, and what it commits will be."""
    check_owner(db)
    # A failed fsync may have left a commit in the page cache alone. Its events can be read, a retry
    # would be answered that they are stored, and a power cut would lose them. So the log is written
    # again first. The transaction takes SQLite's write lock: no other program writes meanwhile.
    with immediate_transaction(db):
        wal.rewrite_and_sync()
    clear_copied_mark(db)
    make_durable(db)
    migrate(db)
    check_key_spec(db, key_spec, replaces)
    set_mark(db, wal.path.parent)
