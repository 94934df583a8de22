"""The file of tokens: read again when it changes, and written by `aggregator token`."""

import fcntl
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from aggregator.core.tokens import Token, TokenIndex, Tokens
from aggregator.errors import SettingError

log = logging.getLogger(__name__)

_MODE = 0o600  # of a new file
_LARGEST = 16_777_216  # bytes; some 50,000 tokens
_Stamp = tuple[int, int, int, int]


class TokenFile:
    """The tokens in force: those of the file as it was when it could be read last."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises SettingError where it is missing or bad."""
        self.path = path
        self._stamp = _stamp_of(path)
        self._said = ""
        self.tokens = read(path)
        self.index = TokenIndex(self.tokens.tokens)

    def refresh(self) -> None:
        """Read the file again if it is another one than before.

        Where it cannot be read, or is bad, the tokens in force stay, and the log says so, once for
        each fault. It is tried again each time: what was in the way may go without a trace.
        """
        stamp = _stamp_of(self.path)
        if stamp is not None and stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            found = read(self.path)
        except SettingError as error:
            self._stamp = None
            if str(error) != self._said:
                log.error("the tokens in force stay: %s", error)
            self._said = str(error)
            return
        self._said = ""
        before = {token.name: token for token in self.tokens.tokens}
        after = {token.name: token for token in found.tokens}
        self.tokens, self.index = found, TokenIndex(found.tokens)
        log.warning("%s", "; ".join(_changes(before, after)) or "tokens: read again, none changed")

    def read_again(self) -> None:
        """Let the next `refresh` read the file whether it has changed or not, and tell its fault.

        Never waits, as a file system may: for the event loop.
        """
        self._stamp, self._said = None, ""


def _changes(before: dict[str, Token], after: dict[str, Token]) -> Iterator[str]:
    for what, names in (
        ("new", after.keys() - before.keys()),
        ("gone", before.keys() - after.keys()),
        ("changed", {name for name in before.keys() & after if before[name] != after[name]}),
    ):
        if names:
            yield f"tokens {what}: {', '.join(sorted(names))}"


def read(path: Path) -> Tokens:
    """The tokens of a file. Raises SettingError, which says what is wrong."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingError(f"tokens: {path} is no ordinary file")
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise SettingError(
            f"tokens: there is no file {path}: make it with the first token, "
            f"aggregator token new NAME --scope publish --tokens {path}"
        ) from None
    except OSError as error:
        raise SettingError(f"tokens: cannot read {path}: {error.strerror}") from error
    if len(text) > _LARGEST:
        raise SettingError(f"tokens: {path} has more than {_LARGEST:,} bytes")
    try:
        return Tokens.decode(text)
    except ValueError as error:
        raise SettingError(f"tokens: {path}: {error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open it without waiting for whoever writes to it, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def edit(path: Path, change: Callable[[Tokens], Tokens]) -> None:
    """Put other tokens in place of those of the file, which is made if it is missing.

    Whoever reads it meanwhile has the old ones or the new ones, never a part; who edits it at the
    same time waits. Raises SettingError; then nothing has changed.
    """
    path = path.resolve()  # a link stays one
    try:
        with _alone(path.parent):
            before = read(path) if path.exists() else Tokens([])
            _replace(path, change(before).encode())
    except OSError as error:
        raise SettingError(f"tokens: cannot write {path}: {error.strerror}") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # the file itself is replaced, and its lock with it
        yield
        os.fsync(handle)  # its name
    finally:
        os.close(handle)


def _replace(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), _MODE)
            if path.exists():  # or the service, as another user, could read it no more
                was = path.stat()
                os.fchmod(file.fileno(), was.st_mode & 0o777)
                with suppress(PermissionError):
                    os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _stamp_of(path: Path) -> _Stamp | None:
    """What tells one state of the file from another; None where it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
