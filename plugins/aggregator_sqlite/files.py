"""Whether the files that are open are those that the next start will find.

SQLite goes on writing to a file that was removed, and every answer would be a lie.
"""

import os
from pathlib import Path

from aggregator.errors import SettingError, StoreError

_LOST = (
    "what was stored may be lost; put it back, or restart, with SIGTERM and not with -9: as it "
    "ends, the service still writes what it can into the database"
)


def is_there(database: Path) -> bool:
    """Whether there is such a file. Raises SettingError where that cannot be told."""
    try:
        return database.exists()
    except OSError as error:
        raise SettingError(f"store: cannot reach {database}: {error.strerror}") from error


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


def check_names(database: Path) -> None:
    """Raise SettingError if the database has a second name: lock and log go by the name.

    To be called before it is opened to write, which would begin a log under this name, and before
    it is copied, since a part of it may be in the log under the other one.
    """
    if is_there(database) and (links := database.stat().st_nlink) > 1:
        raise SettingError(f"store: {database} is one of {links} hard links to the same file")


class Files:
    """The database and its log, as they were when they were opened."""

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
