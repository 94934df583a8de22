"""Databases and logs as a crash leaves them: made by SQLite, copied while it is running."""

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aggregator_sqlite.wal import Findings, examine

HEADER, FRAME = 32, 24
SECTOR = 512


class Image(NamedTuple):
    """The bytes of a database and its log at one moment."""

    database: bytes
    log: bytes

    @property
    def page_size(self) -> int:
        """In bytes."""
        told = int.from_bytes(self.database[16:18])
        return 65_536 if told == 1 else told

    @property
    def frame(self) -> int:
        """Bytes of a frame."""
        return FRAME + self.page_size

    def leftovers(self) -> list[bytes]:
        """The headers of frames of the same log that stand behind its last whole transaction."""
        found = self.findings()
        start = found.end if found else HEADER
        headers = [
            self.log[place : place + FRAME] for place in range(start, len(self.log), self.frame)
        ]
        return [header for header in headers if header[8:16] == self.log[16:24]]

    def with_log(self, log: bytes) -> "Image":
        """The same database beside another log."""
        return self._replace(log=log)

    def flipped(self, byte: int, bit: int = 0) -> "Image":
        """One bit of the log is another."""
        log = bytearray(self.log)
        log[byte] ^= 1 << bit
        return self.with_log(bytes(log))

    def findings(self) -> Findings | None:
        """What we find in it."""
        return examine(io.BytesIO(self.log), lambda: self.page_size)

    @property
    def is_refused(self) -> bool:
        """Whether a start refuses it."""
        found = self.findings()
        return found is not None and found.is_damaged

    @property
    def commits(self) -> int:
        """The transactions that a start finds, as we say."""
        found = self.findings()
        return found.commits if found else 0


class Journalled:
    """A database with a log, and what it looked like after each transaction."""

    def __init__(self, folder: Path, page_size: int = 512) -> None:
        self.path = folder / "image.db"
        self.log = folder / "image.db-wal"
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute(f"PRAGMA page_size = {page_size}")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA wal_autocheckpoint = 0")
        self.db.execute("CREATE TABLE commits (n INTEGER PRIMARY KEY)")
        self.db.execute("CREATE TABLE pages (filling BLOB)")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def commit(self, pages: int = 1) -> Image:
        """One transaction, which touches some pages more than two."""
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("INSERT INTO commits VALUES (NULL)")
        self._fill(pages)
        self.db.execute("COMMIT")
        return self.image()

    def roll_back(self, pages: int) -> Image:
        """A transaction that does not fit into memory, so that most of it is in the log."""
        self.db.execute("PRAGMA cache_size = 10")
        self.db.execute("BEGIN IMMEDIATE")
        self._fill(pages)
        self.db.execute("ROLLBACK")
        return self.image()

    def begin_anew(self) -> Image:
        """All is in the database: the next transaction begins the log anew, over what is there."""
        self.db.execute("PRAGMA wal_checkpoint(RESTART)")
        return self.image()

    def image(self) -> Image:
        """As a kill would leave it."""
        return Image(self.path.read_bytes(), self.log.read_bytes())

    def _fill(self, pages: int) -> None:
        size = self.db.execute("PRAGMA page_size").fetchone()[0] - 100
        for number in range(pages):
            self.db.execute("INSERT INTO pages VALUES (?)", (bytes([number % 7]) * size,))


@contextmanager
def journalled(folder: Path, page_size: int = 512) -> Iterator[Journalled]:
    """Closed at the end."""
    made = Journalled(folder, page_size)
    try:
        yield made
    finally:
        made.db.close()


def recovered(folder: Path, image: Image) -> int:
    """The transactions that SQLite finds."""
    path = folder / "recovered.db"
    path.with_name("recovered.db-shm").unlink(missing_ok=True)
    path.write_bytes(image.database)
    path.with_name("recovered.db-wal").write_bytes(image.log)
    db = sqlite3.connect(path)
    try:
        db.execute("PRAGMA synchronous = OFF")
        return int(db.execute("SELECT count(*) FROM commits").fetchone()[0])
    finally:
        db.close()


def sectors_mixed(old: bytes, new: bytes, is_written: Callable[[int], bool]) -> bytes:
    """The log if only some sectors reached the disk; what never did is as it was, or zeros."""
    old = old.ljust(len(new), b"\0")
    mixed = [
        (new if is_written(start // SECTOR) else old)[start : start + SECTOR]
        for start in range(0, len(new), SECTOR)
    ]
    return b"".join(mixed)
