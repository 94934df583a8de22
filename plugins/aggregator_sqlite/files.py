"""The store's files: the lock, the folder, and the database under its name."""

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from aggregator.errors import SettingError, StoreError

_LITTLE_ROOM = 65_536  # bytes; a start needs about as much
_TRIES = 10  # to take the lock
_PAUSE = 0.02  # seconds between them
_LOST = (
    "what was stored may be lost; put it back, or restart, with SIGTERM and not with -9: as it "
    "ends, the service still writes what it can into the database"
)


class WriterLock:
    """The right to write to a database: keeps a second process off the store.

    A `flock`, because it ends with its process, however that ends, and works between containers, in
    each of which a process may be number 1. It is on a file of its own: to close the database file
    would drop SQLite's own locks on it (https://sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock, or raise SettingError, which names its holder."""
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
        except OSError as error:  # a file system without locks, or a full one
            os.close(file)
            raise SettingError(f"store: cannot lock {self.path}: {error.strerror}") from error
        self._file = file

    def is_held(self) -> bool:
        """Whether this process or another has it. Writes nothing."""
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
        """Release the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _hold(file: int) -> None:
    """Lock it, or raise BlockingIOError. Tries again: `is_held` locks it for a moment."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_PAUSE)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def make_folder(folder: Path) -> None:
    """Make the folder and its missing parents, each one durable before the next.

    Raises SettingError, StoreError.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        # A start that was killed may have made the last folder there is, and not synced its name.
        # Where its parent is not ours to read, somebody else made it.
        owner = (missing[-1].parent if missing else folder).parent
        if os.access(owner, os.R_OK):
            sync_folder(owner)
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise SettingError(f"store: cannot make the folder {folder}: {error.strerror}") from error


def sync(file: int) -> None:
    """Have the disk write the file, out of its own cache too. Raises OSError.

    On macOS fsync leaves it there (`man 2 fsync`). Not every file system knows what does better.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with suppress(OSError):
            fcntl.fcntl(file, full)
            return
    os.fsync(file)


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable. Raises StoreError.

    A file whose name is not synced is lost in a power cut. SQLite syncs the folder too, but goes on
    where that fails (`unixSync` in https://sqlite.org/src/file/src/os_unix.c).
    """
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            sync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # this file system cannot sync folders
            raise StoreError(f"cannot sync the folder {folder}: {error.strerror}") from error


def database_exists(database: Path) -> bool:
    """Whether the file exists. Raises SettingError if it cannot be reached."""
    try:
        return database.exists()
    except OSError as error:
        raise SettingError(f"store: cannot reach {database}: {error.strerror}") from error


def check_names(database: Path) -> None:
    """Raise SettingError if the database has a second hard link: lock and log go by the name.

    Opened to write, it would get a log under this name beside one under the other; a copy of it
    would lack what is in the other log.
    """
    if database_exists(database) and (links := database.stat().st_nlink) > 1:
        raise SettingError(f"store: {database} is one of {links} hard links to the same file")


def unreadable(database: Path, error: StoreError) -> StoreError:
    """The error for a database that SQLite cannot read, with advice.

    A reader too has to write: the index of the log, if nobody has the database open, and what a
    journal rolls back, which a first start that was cut off has left.
    """
    hint = ""
    if database.with_name(database.name + "-journal").exists():
        hint = ": a first start was cut off, so start the service once before"
    elif not (os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)):
        hint = ": do this as the user that the service runs as"
    return StoreError(f"store: {database}: {error}{hint}")


def way_to_read(database: Path) -> str:
    """What to do where nothing can be written there, but what is stored can be read; or nothing."""
    try:
        disk = os.statvfs(database)
    except OSError:
        return ""
    if disk.f_flag & os.ST_RDONLY or disk.f_bavail * disk.f_frsize < _LITTLE_ROOM:
        return "\nnothing can be written there; what is stored is served by: serve --read-only"
    return ""


class OpenFiles:
    """The database and its log as they were opened: does the next start find the same files?

    SQLite goes on writing to a file that was removed: what is answered then would be lost.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._log = database.with_name(database.name + "-wal")
        opened = os.stat(database)
        self._size = opened.st_size
        self._inodes = {database: opened.st_ino}
        self.opened()

    def opened(self) -> None:
        """To be called when the writer was opened, and the log with it."""
        self._inodes[self._log] = os.stat(self._log).st_ino

    def closed(self) -> None:
        """To be called when the writer was closed: the log may be removed and made anew."""
        self._inodes.pop(self._log, None)

    def check(self) -> None:
        """Raise StoreError if one of them was removed, replaced or truncated."""
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
