"""A new file that gets its name when it is whole and durable, and not before."""

import os
import stat
import tempfile
from glob import escape
from pathlib import Path

from aggregator.errors import SettingError, StoreError

_COMPANIONS = ("-wal", "-shm", "-journal", ".lock")


class Draft:
    """The file `path`, which becomes `destination` or nothing."""

    def __init__(self, destination: Path, original: Path) -> None:
        """Make it beside the destination, in place of drafts that were left there.

        Raises SettingError if it cannot be made, or the name is taken.
        """
        self._destination = destination.absolute()
        self._mode = stat.S_IMODE(original.stat().st_mode)
        _check_name(self._destination, original)
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
        self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)


def _check_name(destination: Path, original: Path) -> None:
    place = destination.parent.resolve() / destination.name
    if destination.resolve() == original:
        raise SettingError(f"backup: {destination} is the store itself")
    if place in [original.with_name(original.name + end) for end in _COMPANIONS]:
        raise SettingError(f"backup: {destination} is the name of a file that belongs to the store")
    _check_free(destination)
    if not destination.parent.is_dir():
        raise SettingError(f"backup: there is no folder {destination.parent}")


def _check_free(destination: Path) -> None:
    if os.path.lexists(destination):
        raise SettingError(f"backup: {destination} is there already; nothing is overwritten")


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
