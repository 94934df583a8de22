"""SQLite's write-ahead log, looked at before SQLite opens it.

SQLite drops whatever stands behind a damaged place in its log, and says nothing: commits that
were durable are gone, and the file is in order. docs/decisions/0013 has the reasons.

Format and checksums: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

import os
import shlex
import shutil
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from enum import Enum, auto
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aggregator.errors import SettingError, StoreError

HEADER = 32
"""Bytes of the log's header."""
FRAME = 24
"""Bytes of a frame's header; a page follows."""
PAGE_SIZES = {2**power for power in range(9, 17)}
"""All that SQLite knows, in bytes."""
_PIECE = 2**20  # bytes
_USUAL_PAGE = 4096
_VERSIONS = slice(18, 20)  # in the database's header
_NO_LOG = b"\x01\x01"
_SECTOR = 512  # bytes that a disk writes as a whole or not at all
_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
_MASK = 0xFFFFFFFF
_BROKEN = b""
Sums = tuple[int, int]


class Findings(NamedTuple):
    """What is in a log, in bytes and in commits."""

    end: int  # SQLite reads no further: the end of the last transaction before the break
    commits: int  # up to there
    is_damaged: bool  # a later transaction was begun than the one in which the break is
    lost: int  # commits behind the break, as far as they can be told from what is left
    salts: bytes


class Checkpointed(Enum):
    """Of the transactions behind the break, as far as they can be read."""

    NONE = auto()
    SOME = auto()
    ALL = auto()


class WriteAheadLog:
    """The log beside a database."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.path = database.with_name(database.name + "-wal")

    @property
    def has_content(self) -> bool:
        """Whether anything is in it."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    @property
    def has_journal(self) -> bool:
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

    def rewrite_and_sync(self) -> None:
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
        if not self.has_content:
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
            copied = how_much_is_checkpointed(log, database, self._page_size, found.end)
        if copied is Checkpointed.ALL:
            return (
                "go on without the log, since all that can be read of it is in the database "
                f"already: rm {self._quoted}"
            )
        if copied is Checkpointed.SOME:
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


class Header(NamedTuple):
    """What is true of all frames that belong to it."""

    order: str  # of the bytes in the words that are summed, as `struct` writes it
    page_size: int
    salts: bytes  # others each time that the log begins anew
    sums: Sums


class Frame(NamedTuple):
    """One page as a transaction has left it."""

    start: int  # where it stands in the log
    end: int
    page: int
    size: int  # of the database in pages, in the last frame of a transaction; 0 in others
    salts: bytes
    kept: Sums  # the checksum that it carries
    made: Sums  # the one that its bytes come to
    is_next: bool  # was written after the frame before it, when that said what it says now
    content: bytes  # of the page

    @property
    def is_sound(self) -> bool:
        """Whether its bytes come to its checksum; the salts are not summed."""
        return self.made == self.kept and self.page > 0


def examine(log: BinaryIO, page_size: Callable[[], int]) -> Findings | None:
    """Read the log from its beginning to its end; None if there is nothing in it.

    `page_size` gives the database's, in bytes; asked where the log's header is not readable.
    """
    header, is_readable = find_header(log, page_size)
    return _look_behind(log, header, None if is_readable else 0) if header else None


def _look_behind(log: BinaryIO, header: Header, broken: int | None) -> Findings:
    end, commits, lost, is_damaged = (HEADER if broken is None else 0), 0, 0, False
    before = None
    for frame in read_frames(log, header):
        is_ours = frame.salts == header.salts
        if broken is None and not (is_ours and frame.is_sound):
            broken = frame.start
        if broken is None and frame.size:
            end, commits = frame.end, commits + 1
        elif broken is not None and is_ours:
            lost += frame.size > 0
            is_behind = before is not None and before.start >= broken and before.size > 0
            is_damaged = is_damaged or (is_behind and frame.is_next)
        before = frame
    return Findings(end, commits, is_damaged, lost, header.salts)


def how_much_is_checkpointed(
    log: BinaryIO, database: BinaryIO, page_size: Callable[[], int], end: int
) -> Checkpointed:
    """How much of what stands behind byte `end` of the log a checkpoint has copied.

    If it is some of it, the database is no longer what the log before the break can be read with.

    SOME when in doubt: a page that a transaction has not changed looks like one that was copied.
    """
    header, _ = find_header(log, page_size)
    if not header:
        return Checkpointed.NONE
    before: dict[int, bytes] = {}
    later: list[tuple[int, bytes]] = []
    ours = 0  # of them; behind those the leftovers of an older log begin
    for frame in read_frames(log, header):
        if frame.end <= end:
            before[frame.page] = _digest(frame.content)
            continue
        later.append((frame.page, _digest(frame.content) if frame.is_sound else _BROKEN))
        if frame.salts == header.salts:
            ours = len(later)
    behind: dict[int, list[bytes]] = defaultdict(list)
    for page, digest in later[:ours]:
        behind[page].append(digest)
    there = {page: _in_database(database, header.page_size, page) for page in before | behind}
    return _compare(before, behind, there)


def _compare(
    before: dict[int, bytes], behind: dict[int, list[bytes]], there: dict[int, bytes]
) -> Checkpointed:
    newest = before | {page: digests[-1] for page, digests in behind.items()}
    if there == newest:
        return Checkpointed.ALL
    is_ahead = any(
        there[page] in digests and there[page] != before.get(page)
        for page, digests in behind.items()
    )
    return Checkpointed.SOME if is_ahead else Checkpointed.NONE


def _in_database(database: BinaryIO, page_size: int, page: int) -> bytes:
    database.seek(max(page - 1, 0) * page_size)
    return _digest(database.read(page_size))


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def read_header(raw: bytes) -> Header | None:
    """None where SQLite takes the whole log for empty."""
    if len(raw) < HEADER:
        return None
    magic, _, page_size, _, salts, *kept = struct.unpack(">4I8s2I", raw)
    order = _ORDERS.get(magic)
    if not order or page_size not in PAGE_SIZES:
        return None
    sums = checksum(order, raw[:-8], (0, 0))
    return Header(order, page_size, salts, sums) if sums == tuple(kept) else None


def find_header(log: BinaryIO, page_size: Callable[[], int]) -> tuple[Header | None, bool]:
    """The header, and whether it is readable; the log stands at its first frame then.

    Where it is not, it is made of the frames; `page_size` then says how long their pages are.
    """
    header = read_header(log.read(HEADER))
    if header:
        return header, True
    header = _guess_header(log, page_size())
    log.seek(HEADER)
    return header, False


def _guess_header(log: BinaryIO, page_size: int) -> Header | None:
    """That of the first two frames that belong together, where the header cannot be read."""
    for order in _ORDERS.values():
        log.seek(HEADER)
        before = None
        for frame in read_frames(log, Header(order, page_size, b"", (0, 0))):
            if before and frame.is_next and frame.salts == before.salts:
                return Header(order, page_size, frame.salts, (0, 0))
            before = frame
    return None


def read_frames(log: BinaryIO, header: Header) -> Iterator[Frame]:
    """Every frame that is there in full, in memory one at a time; the log stands at the first."""
    length = FRAME + header.page_size
    sums = header.sums
    before = Frame(0, HEADER, 0, 0, header.salts, sums, sums, is_next=False, content=b"")
    while len(raw := log.read(length)) == length:
        before = _read_frame(raw, before, header.order)
        yield before


def _read_frame(raw: bytes, before: Frame, order: str) -> Frame:
    """A frame's checksum goes on from the one before it: as that stands there, or was written.

    If only the latter fits, the bytes of the frame before are sound, and its checksum is damaged.
    """
    page, size, salts, *two = struct.unpack(">2I8s2I", raw[:FRAME])
    content, kept = raw[FRAME:], (two[0], two[1])
    summed = raw[:8] + content
    made = checksum(order, summed, before.kept)
    is_next = made == kept and (before.is_sound or _is_in_one_sector(before))
    if made != kept and not before.is_sound:
        is_next = kept == checksum(order, summed, before.made)
        made = kept if is_next else made
    end = before.end + len(raw)
    return Frame(before.end, end, page, size, salts, kept, made, is_next, content)


def _is_in_one_sector(frame: Frame) -> bool:
    """Whether its header was written as a whole, so that each part speaks for the others."""
    return frame.start // _SECTOR == (frame.start + FRAME - 1) // _SECTOR


def checksum(order: str, summed: bytes, sums: Sums) -> Sums:
    """Go on with SQLite's sums over more bytes, a multiple of eight."""
    one, two = sums
    words = iter(struct.unpack(f"{order}{len(summed) // 4}I", summed))
    for even, odd in zip(words, words, strict=True):
        one = one + even + two & _MASK
        two = two + odd + one & _MASK
    return one, two
