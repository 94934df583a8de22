"""A new file that gets its name when it is whole and durable, and not before."""

import fcntl
import os
import stat
import tempfile
from glob import escape
from pathlib import Path

from aggregator.errors import SettingError, StoreError

_WITH_DATA = ("-wal", "-journal")
_OTHERS = ("-shm", ".lock")


class Draft:
    """The file `path`, which becomes `destination` or nothing. It is locked as long as it is one.

    `flock`, which SQLite's own locks do not know of.
    """

    def __init__(self, destination: Path, original: Path) -> None:
        """Make it beside the destination, in place of drafts that were left there.

        Raises SettingError if it cannot be made, the name is taken, or somebody else is making it.
        """
        self._destination = destination.absolute()
        name, folder = self._destination.name, self._destination.parent
        try:
            _check_name(self._destination, original)
            self._mode = stat.S_IMODE(original.stat().st_mode)
            for left in folder.glob(f".{escape(name)}.????????.part"):
                _remove(left, self._destination)
            self._file, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
        except OSError as error:
            raise SettingError(
                f"backup: cannot write {self._destination}: {error.strerror}"
            ) from error
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.path = Path(path)

    def keep(self) -> int:
        """Give it its name and the original's rights; return its size in bytes.

        Raises StoreError if it cannot be made durable.
        """
        try:
            self.path.chmod(self._mode)
            _sync(self.path)
            _check_free(self._destination)
            _rename(self.path, self._destination)
            self.path = self._destination
            _sync(self.path.parent)
            size = self.path.stat().st_size
        except FileExistsError as error:
            raise _taken(self._destination) from error
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        os.close(self._file)
        return size

    def discard(self) -> None:
        """Remove it, and what SQLite may have left beside it."""
        _unlink(self.path)
        os.close(self._file)


def _remove(left: Path, destination: Path) -> None:
    """Remove a draft that a backup has left which was killed."""
    try:
        file = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _unlink(left)
    except BlockingIOError:
        raise SettingError(f"backup: another one to {destination} is under way") from None
    finally:
        os.close(file)


def _unlink(draft: Path) -> None:
    _beside(draft, "-journal").unlink(missing_ok=True)
    draft.unlink(missing_ok=True)


def _rename(draft: Path, destination: Path) -> None:
    """As `rename` does, but that nothing is overwritten. Raises FileExistsError."""
    try:
        destination.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # there are file systems without links
        draft.rename(destination)
    else:
        draft.unlink()


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
        raise _taken(destination)
    for end in _WITH_DATA:
        if (left := _beside(destination, end)).exists():
            raise SettingError(
                f"backup: {left} belongs to a database that was there before, and would be mixed "
                "into the copy: move it away"
            )


def _taken(destination: Path) -> SettingError:
    return SettingError(f"backup: {destination} is there already; nothing is overwritten")


def _beside(database: Path, end: str) -> Path:
    return database.with_name(database.name + end)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
