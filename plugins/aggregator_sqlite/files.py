"""The store's files: the lock, the folder, the database and what belongs to it."""

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from aggregator.errors import SettingError, StoreError

_TRIES = 10
_PAUSE = 0.02  # seconds
_LOST = (
    "what was stored may be lost; put it back, or restart, with SIGTERM and not with -9: as it "
    "ends, the service still writes what it can into the database"
)


class WriterLock:
    """The right to write to a database file: keeps a second process off the store.

    `flock` on a file beside the database: it ends with its process, however that ends, and is told
    apart between containers, where every process may be number 1. Not on the database itself,
    since closing that would drop SQLite's own locks (https://sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock, or raise SettingError with who holds it."""
        if self._file is not None:
            return
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise SettingError(f"store: cannot lock {self.path}: {error.strerror}") from error
        try:
            _hold(file)
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError:
            owner = os.read(file, 1000).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise SettingError(
                f"store: {self.path.with_suffix('')} is in use by {owner}; "
                "stop that one, or give this one a store of its own"
            ) from None
        except OSError as error:  # no locks here, or no room for the name of who holds it
            os.close(file)
            raise SettingError(f"store: cannot lock {self.path}: {error.strerror}") from error
        self._file = file

    def is_held(self) -> bool:
        """Whether somebody has it, this process or another. Takes nothing and writes nothing."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            finally:
                os.close(file)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            raise SettingError(f"store: cannot lock {self.path}: {error.strerror}") from error
        return False

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _hold(file: int) -> None:
    """Lock it, or raise BlockingIOError; somebody may only be asking whether it is locked."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_PAUSE)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def make_folder(folder: Path) -> None:
    """Make it and those that it is in, each durably before the next.

    The last one that is there already may have been made by a start that died too early, unless
    somebody else made it, in a place that is not ours to read. Raises SettingError, StoreError.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        owner = (missing[-1].parent if missing else folder).parent
        if os.access(owner, os.R_OK):
            sync_folder(owner)
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise SettingError(f"store: cannot make the folder {folder}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make durable which names are in it. Raises StoreError.

    After a power cut a folder holds only the names that it was synced with. SQLite syncs it too,
    and goes on where that fails (`unixSync` in https://sqlite.org/src/file/src/os_unix.c).
    """
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise StoreError(f"cannot sync the folder {folder}: {error.strerror}") from error


def database_exists(database: Path) -> bool:
    """Whether there is such a file. Raises SettingError where that cannot be told."""
    try:
        return database.exists()
    except OSError as error:
        raise SettingError(f"store: cannot reach {database}: {error.strerror}") from error


def check_names(database: Path) -> None:
    """Raise SettingError if the database has a second name: lock and log go by the name.

    To be called before it is opened to write, which would begin a log under this name, and before
    it is copied, since a part of it may be in the log under the other one.
    """
    if database_exists(database) and (links := database.stat().st_nlink) > 1:
        raise SettingError(f"store: {database} is one of {links} hard links to the same file")


def unreadable(database: Path, error: StoreError) -> StoreError:
    """What SQLite says of a database that it cannot read, and what can be done about it.

    Whoever reads makes the index of the log, if nobody has it open, and rolls back what a first
    start has left that was cut off.
    """
    hint = ""
    if database.with_name(database.name + "-journal").exists():
        hint = ": a first start was cut off, so start the service once before"
    elif not (os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)):
        hint = ": do this as the user that the service runs as"
    return StoreError(f"store: {database}: {error}{hint}")


class OpenFiles:
    """The database and its log as they were opened: are they what the next start will find?

    SQLite goes on writing to a file that was removed, and every answer would be a lie.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._log = database.with_name(database.name + "-wal")
        opened = os.stat(database)
        self._size = opened.st_size
        self._inodes = {database: opened.st_ino}
        self.opened()

    def opened(self) -> None:
        """The writer was opened, and the log with it."""
        self._inodes[self._log] = os.stat(self._log).st_ino

    def closed(self) -> None:
        """The writer was closed: the log may go with it, and is made anew."""
        self._inodes.pop(self._log, None)

    def check(self) -> None:
        """Raise StoreError if one of them was removed, replaced or cut off."""
        for path, inode in self._inodes.items():
            try:
                found = os.stat(path)
            except FileNotFoundError as error:
                raise StoreError(f"{path} is gone: {_LOST}") from error
            except OSError as error:
                raise StoreError(f"{path} cannot be reached: {error.strerror}") from error
            if found.st_ino != inode:
                raise StoreError(f"{path} was replaced while it was in use: {_LOST}")
            if path == self._database and found.st_size < self._size:
                raise StoreError(f"{path} was cut off while it was in use: {_LOST}")
