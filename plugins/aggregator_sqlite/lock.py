"""Keeps a second process off the store.

`flock` on a file beside the database: it ends with its process, however that ends, and is told
apart between containers, where every process may be number 1. Not on the database itself, since
closing that would drop SQLite's own locks (https://sqlite.org/howtocorrupt.html, 2.2).
"""

import fcntl
import os
import socket
from pathlib import Path

from aggregator.errors import SettingError


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
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 1000).decode(errors="replace").strip() or "another process"
            os.close(file)
            if not isinstance(error, BlockingIOError):
                raise SettingError(f"store: cannot lock {self.path}: {error.strerror}") from error
            raise SettingError(
                f"store: {self.path.with_suffix('')} is in use by {holder}; "
                "stop that one, or give this one a store of its own"
            ) from None
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
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
