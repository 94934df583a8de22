"""Keeps a second process off the store.

`flock` on a file beside the database: it ends with its process, however that ends, and is told
apart between containers, where every process may be number 1. Not on the database itself, since
closing that would drop SQLite's own locks (https://sqlite.org/howtocorrupt.html, 2.2).
"""

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from aggregator.errors import SettingError

_TRIES = 10
_PAUSE = 0.02  # seconds


class Lock:
    """The right to write to a database file."""

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
