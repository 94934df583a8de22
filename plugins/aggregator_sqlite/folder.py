"""The folder of the store: after a power cut it holds only the names that it was synced with.

SQLite syncs it too, and goes on where that fails (`unixSync` in
https://sqlite.org/src/file/src/os_unix.c).
"""

import errno
import os
from pathlib import Path

from aggregator.errors import SettingError, StoreError


def make(folder: Path) -> None:
    """Make it and those that it is in, each durably before the next.

    The last one that is there already may have been made by a start that died too early, unless
    somebody else made it, in a place that is not ours to read. Raises SettingError, StoreError.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        owner = (missing[-1].parent if missing else folder).parent
        if os.access(owner, os.R_OK):
            sync(owner)
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync(path.parent)
    except OSError as error:
        raise SettingError(f"store: cannot make the folder {folder}: {error.strerror}") from error


def sync(folder: Path) -> None:
    """Make durable which names are in it. Raises StoreError."""
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise StoreError(f"cannot sync the folder {folder}: {error.strerror}") from error
