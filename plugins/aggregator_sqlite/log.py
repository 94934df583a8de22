"""SQLite's write-ahead log, looked at before SQLite opens it.

SQLite drops whatever stands behind a damaged place in its log, and says nothing: commits that
were durable are gone, and the file is in order.
"""

import os
import shlex
import shutil
from pathlib import Path

from aggregator.errors import SettingError, StoreError
from aggregator_sqlite.checkpointed import Copied, how_much_is_copied
from aggregator_sqlite.damage import Findings, examine
from aggregator_sqlite.wal import PAGE_SIZES

_PIECE = 2**20  # bytes
_USUAL_PAGE = 4096
_VERSIONS = slice(18, 20)  # in the database's header
_NO_LOG = b"\x01\x01"


class Log:
    """The log beside a database."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.path = database.with_name(database.name + "-wal")

    @property
    def is_there(self) -> bool:
        """Whether anything is in it."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    @property
    def is_beside_journal(self) -> bool:
        """Whether a journal is there, which SQLite has used before it began the log."""
        return self._database.with_name(self._database.name + "-journal").exists()

    @property
    def is_expected(self) -> bool:
        """Whether the database says that it is written with one, be that here or not."""
        return self._versions() not in (b"", _NO_LOG)

    def check(self) -> None:
        """Raise SettingError if it is another database's, or commits would be lost by opening it.

        To be called while this process has no connection to the database.
        """
        try:
            self._check_owner()
            found = self._examine()
            # Where another program writes at this moment, it does not look damaged twice.
            if found and found.is_damaged and found == self._examine():
                raise SettingError(self._told(found))
        except OSError as error:
            raise SettingError(
                f"store: cannot read {error.filename or self.path}: {error.strerror}"
            ) from error

    def write_again(self) -> None:
        """Write and sync the bytes that are there, so that all that can be read is on the disk.

        After an fsync that failed, a log can be read that the disk does not have, and a later fsync
        succeeds without writing it
        (https://www.usenix.org/conference/atc20/presentation/rebello). Nobody else may write
        meanwhile. Raises StoreError.
        """
        try:
            with self.path.open("r+b") as log:
                while piece := log.read(_PIECE):
                    log.seek(-len(piece), os.SEEK_CUR)
                    log.write(piece)
                log.flush()
                os.fsync(log.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error

    def _check_owner(self) -> None:
        """SQLite would copy it into the database, whosever log it is, or remove it without a word.

        A copy made by `VACUUM INTO` says in its header that it is written without a log
        (https://sqlite.org/fileformat.html, 1.3.3), and the service changes that before it begins
        one: a log beside such a file is that of the file which stood there before.
        """
        if not self.is_there:
            return
        versions = self._versions()
        if not versions:
            raise SettingError(
                f"store: {self.path} is a log, and {self._database} is gone or empty: what was "
                "stored is in both. Put the database back, or move the log away to begin anew"
            )
        if versions == _NO_LOG:
            raise SettingError(
                f"store: {self.path} is not the log of {self._database}, which was put there after "
                f"it. What it holds would be mixed in: move it away, and {self._database.name}-shm "
                "too"
            )

    def _versions(self) -> bytes:
        """Empty where there is no database."""
        try:
            with self._database.open("rb") as database:
                return database.read(_VERSIONS.stop)[_VERSIONS]
        except FileNotFoundError:
            return b""

    def _examine(self) -> Findings | None:
        try:
            with self.path.open("rb", buffering=_PIECE) as log:
                return examine(log, self._page_size)
        except FileNotFoundError:
            return None

    def _page_size(self) -> int:
        """As the database's header says (https://sqlite.org/fileformat2.html#page_size)."""
        with self._database.open("rb") as database:
            told = int.from_bytes(database.read(18)[16:])
        told = 65_536 if told == 1 else told
        return told if told in PAGE_SIZES else _USUAL_PAGE

    def _told(self, found: Findings) -> str:
        return (
            f"store: {self.path} is damaged behind byte {found.end}, and commits follow that were "
            f"durable: about {found.lost}, which SQLite would drop in silence\n"
            f"nothing was changed, and {self._keep_copy(found.salts)}\n"
            "first stop every other program that has the store open, Litestream or sqlite3 say: "
            "it would write as if the log were as before\n"
            f"either restore a backup of {self._database}, with all that begins with that name "
            "moved away, as docs/backup.md says\n"
            f"or {self._other_way(found)}"
        )

    def _other_way(self, found: Findings) -> str:
        with self.path.open("rb", buffering=_PIECE) as log, self._database.open("rb") as database:
            copied = how_much_is_copied(log, database, self._page_size, found.end)
        if copied is Copied.ALL:
            return (
                "go on without the log, since all that can be read of it is in the database "
                f"already: rm {self._quoted}"
            )
        if copied is Copied.SOME:
            return (
                "begin with an empty store, and have everything sent again: a part of what follows "
                "the damage is in the database, so that its pages do not belong together without "
                f"it: {self._moving_away}"
            )
        return (
            "go on with what stands before the damage: "
            f"truncate -s {found.end} {self._quoted}\n"
            "what is lost is stored again when publishers send it again"
        )

    @property
    def _moving_away(self) -> str:
        before = shlex.quote(str(self._database.with_name("before")))
        return f"mkdir {before} && mv {shlex.quote(str(self._database))}* {before}"

    @property
    def _quoted(self) -> str:
        return shlex.quote(str(self.path))

    def _keep_copy(self, salts: bytes) -> str:
        """One copy, however often a start is tried: the salts are others in the next log."""
        copy = self.path.with_name(f"{self.path.name}.damaged-{salts.hex()}")
        part = copy.with_name(copy.name + ".part")
        try:
            if not copy.exists():
                part.touch(0o600)
                shutil.copyfile(self.path, part)
                shutil.copymode(self.path, part)
                with part.open("rb") as written:
                    os.fsync(written.fileno())
                part.replace(copy)
        except OSError as error:
            part.unlink(missing_ok=True)
            return f"no copy could be kept: {error.strerror}"
        return f"a copy is kept in {copy}"
