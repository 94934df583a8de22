"""A new file that gets its name when it is whole and durable, and not before."""

import os
import stat
import tempfile
from glob import escape
from pathlib import Path

from aggregator.errors import SettingError, StoreError

_WITH_DATA = ("-wal", "-journal")
_OTHERS = ("-shm", ".lock")


class Draft:
    """The file `path`, which becomes `destination` or nothing."""

    def __init__(self, destination: Path, original: Path) -> None:
        """Make it beside the destination, in place of drafts that were left there.

        Raises SettingError if it cannot be made, or the name is taken.
        """
        self._destination = destination.absolute()
        _check_name(self._destination, original)
        self._mode = stat.S_IMODE(original.stat().st_mode)
        name, folder = self._destination.name, self._destination.parent
        try:
            for left in folder.glob(f".{escape(name)}.????????.part*"):
                left.unlink(missing_ok=True)
            file, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
        except OSError as error:
            raise SettingError(f"backup: cannot write into {folder}: {error.strerror}") from error
        os.close(file)
        self.path = Path(path)

    def keep(self) -> int:
        """Give it its name and the original's rights; return its size in bytes.

        Raises StoreError if it cannot be made durable.
        """
        try:
            self.path.chmod(self._mode)
            _sync(self.path)
            _check_free(self._destination)
            self.path = self.path.rename(self._destination)
            _sync(self.path.parent)
            return self.path.stat().st_size
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error

    def discard(self) -> None:
        """Remove it, and what SQLite may have left beside it."""
        self.path.unlink(missing_ok=True)
        _beside(self.path, "-journal").unlink(missing_ok=True)


def _check_name(destination: Path, original: Path) -> None:
    folder = destination.parent.resolve()
    if destination.resolve() == original:
        raise SettingError(f"backup: {destination} is the store itself")
    if folder / destination.name in [_beside(original, end) for end in (*_WITH_DATA, *_OTHERS)]:
        raise SettingError(f"backup: {destination} is the name of a file that belongs to the store")
    if not folder.is_dir():
        raise SettingError(f"backup: there is no folder {folder}")
    _check_free(destination)


def _check_free(destination: Path) -> None:
    if os.path.lexists(destination):
        raise SettingError(f"backup: {destination} is there already; nothing is overwritten")
    for end in _WITH_DATA:
        if (left := _beside(destination, end)).exists():
            raise SettingError(
                f"backup: {left} belongs to a database that was there before, and would be mixed "
                "into the copy: move it away"
            )


def _beside(database: Path, end: str) -> Path:
    return database.with_name(database.name + end)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
