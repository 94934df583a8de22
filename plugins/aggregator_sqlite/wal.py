"""SQLite's write-ahead log, examined before SQLite opens it.

SQLite silently drops everything behind a damaged frame of its log: commits that were durable are
gone, and the database passes every check. docs/decisions/0013 has the reasons.

Format and checksums: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

import os
import shlex
import shutil
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aggregator.errors import SettingError, StoreError
from aggregator_sqlite.files import sync

HEADER = 32  # bytes of the log's header
FRAME = 24  # bytes of a frame's header; a page follows
PAGE_SIZES = {2**power for power in range(9, 17)}  # bytes; all that SQLite allows

_PIECE = 2**20  # bytes read and written at once
_DEFAULT_PAGE_SIZE = 4096
_VERSIONS = slice(18, 20)  # of the file format, in the database's header
_NO_LOG = b"\x01\x01"  # those of a database that is written without a log
_SECTOR = 512  # bytes that a disk writes as a whole or not at all
_BYTE_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}  # by the log's magic number
_MASK = 0xFFFFFFFF
_SAY_SO = "then say that this is accepted: aggregator check --accept-missing-log"
_UNREADABLE = b""  # instead of a digest

Sums = tuple[int, int]  # a checksum


class Findings(NamedTuple):
    """What is in a log. The *break* is the first frame that SQLite rejects."""

    end: int  # bytes that SQLite reads: up to the end of the last transaction before the break
    commits: int  # in them
    is_damaged: bool  # no crash has left this: transactions follow the one with the break
    lost: int  # commits behind the break, as far as they can be counted
    salts: bytes


class Checkpointed(Enum):
    """How many of the readable pages behind the break a checkpoint has copied."""

    NONE = auto()
    SOME = auto()
    ALL = auto()


class WriteAheadLog:
    """The log beside a database, as a file: examined, or written again."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.path = database.with_name(database.name + "-wal")

    @property
    def has_content(self) -> bool:
        """Whether the log exists and is not empty."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    @property
    def is_missing(self) -> bool:
        """Whether there is no log, or one in which SQLite finds no header or no room for a frame.

        One with frames of an older log alone is there: a crash as it begins anew leaves that.
        """
        with self._reading():
            try:
                with self.path.open("rb") as log:
                    header, size = read_header(log.read(HEADER)), os.fstat(log.fileno()).st_size
            except FileNotFoundError:
                return True
            return not header or size < HEADER + FRAME + header.page_size

    @property
    def stamp(self) -> tuple[int, int, int] | None:
        """What changes when it is written to or replaced; None if there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def has_journal(self) -> bool:
        """Whether there is a rollback journal, which SQLite uses until it begins a log."""
        return self._database.with_name(self._database.name + "-journal").exists()

    @property
    def is_expected(self) -> bool:
        """Whether the database's header says that it is written with a log."""
        return self._versions() not in (b"", _NO_LOG)

    def check(self) -> None:
        """Raise SettingError if commits would be lost by opening it, or it is not this database's.

        To be called while this process has no connection to the database.
        """
        with self._reading():
            if found := self.find_damage():
                raise SettingError(self._refusal(found))

    def find_damage(self) -> Findings | None:
        """What is found in a damaged log. Raises SettingError if it is not this database's."""
        with self._reading():
            self._check_owner()
            found = self._examine()
            # Twice: where another program is writing, it looks different the second time.
            return found if found and found.is_damaged and found == self._examine() else None

    def count_hidden(self) -> int | None:
        """How many commits are in the log alone; None if the database is no whole without it."""
        with self._reading():
            if self.is_missing:
                return 0
            with self.path.open("rb", buffering=_PIECE) as log, self._database.open("rb") as file:
                return commits_not_checkpointed(log, file, self._page_size)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingError(
                f"store: cannot read {error.filename or self.path}: {error.strerror}"
            ) from error

    def rewrite_and_sync(self) -> None:
        """Make everything that can be read in the log durable. Nobody may write to it meanwhile.

        Raises StoreError.
        """
        try:
            with self.path.open("r+b") as log:
                # After a failed fsync the kernel takes the pages for clean: they can be read, and
                # the next fsync succeeds without writing them. Written again, they are dirty again
                # (https://www.usenix.org/conference/atc20/presentation/rebello).
                while piece := log.read(_PIECE):
                    log.seek(-len(piece), os.SEEK_CUR)
                    log.write(piece)
                log.flush()
                sync(log.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error

    def _check_owner(self) -> None:
        """Raise SettingError if the log belongs to another database.

        SQLite would copy it into this one, or remove it, without a word. It is recognised beside a
        copy made by `VACUUM INTO`: the header of that says that it is written without a log
        (https://sqlite.org/fileformat.html, 1.3.3) until the service opens it.
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
        """The versions in the database's header; empty if there is no database."""
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
        """From the database's header (https://sqlite.org/fileformat2.html#page_size)."""
        with self._database.open("rb") as database:
            size = int.from_bytes(database.read(18)[16:])
        size = 65_536 if size == 1 else size
        return size if size in PAGE_SIZES else _DEFAULT_PAGE_SIZE

    def _refusal(self, found: Findings) -> str:
        return (
            f"store: {self.path} is damaged behind byte {found.end}, and commits follow that were "
            f"durable: about {found.lost}, which SQLite would drop in silence\n"
            f"nothing was changed, and {self._keep_copy(found.salts)}\n"
            "first stop every other program that has the store open, Litestream or sqlite3 say: "
            "it would write as if the log were as before\n"
            f"either restore a backup of {self._database}, with all that begins with that name "
            "moved away, as docs/backup.md says\n"
            f"or {self._way_without_backup(found)}"
        )

    def _way_without_backup(self, found: Findings) -> str:
        with self.path.open("rb", buffering=_PIECE) as log, self._database.open("rb") as database:
            copied = how_much_is_checkpointed(log, database, self._page_size, found.end)
        if copied is Checkpointed.ALL:
            return (
                "go on without the log, since all that can be read of it is in the database "
                f"already: rm {self._quoted}\n{_SAY_SO}"
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
            + ("" if found.commits else f"{_SAY_SO}\n")
            + "what is lost is stored again when publishers send it again"
        )

    @property
    def _moving_away(self) -> str:
        before = shlex.quote(str(self._database.with_name("before")))
        return f"mkdir {before} && mv {shlex.quote(str(self._database))}* {before}"

    @property
    def _quoted(self) -> str:
        return shlex.quote(str(self.path))

    def _keep_copy(self, salts: bytes) -> str:
        """Keep a copy, but one for all tries to start: each log has salts of its own."""
        copy = self.path.with_name(f"{self.path.name}.damaged-{salts.hex()}")
        part = copy.with_name(copy.name + ".part")
        try:
            if not copy.exists():
                part.touch(0o600)
                shutil.copyfile(self.path, part)
                shutil.copymode(self.path, part)
                with part.open("rb") as written:
                    sync(written.fileno())
                part.replace(copy)
        except OSError as error:
            part.unlink(missing_ok=True)
            return f"no copy could be kept: {error.strerror}"
        return f"a copy is kept in {copy}"


class Header(NamedTuple):
    """The log's header: what all of its frames have in common."""

    order: str  # byte order of the checksums, as in `struct`
    page_size: int
    salts: bytes  # new ones each time that the log begins anew
    sums: Sums  # from which the first frame's go on


class Frame(NamedTuple):
    """One page as a transaction has left it."""

    start: int  # its place in the log
    end: int
    page: int
    size: int  # of the database in pages, in the last frame of a transaction; 0 in others
    salts: bytes
    stored: Sums  # the checksum in its header
    computed: Sums  # the checksum of its bytes
    is_next: bool  # was written after the frame before it, with that as it is now
    content: bytes  # of the page

    @property
    def is_intact(self) -> bool:
        """Whether its checksum is right. The salts are not part of it."""
        return self.computed == self.stored and self.page > 0


def examine(log: BinaryIO, page_size: Callable[[], int]) -> Findings | None:
    """Read the whole log, behind a break too; None if there is nothing in it.

    `page_size` tells the database's page size, if the log's header is not readable.
    """
    header, is_readable = find_header(log, page_size)
    return _look_behind(log, header, None if is_readable else 0) if header else None


def _look_behind(log: BinaryIO, header: Header, broken: int | None) -> Findings:
    """Look for what shows that commits behind the break were durable.

    That is the last frame of a transaction, at the break or behind it, directly followed by a frame
    of the same log that goes on from it: such a frame is written only after the transaction's
    fsync. `broken` is where the break begins; an unreadable header is one.
    """
    end, commits, lost, is_damaged = (HEADER if broken is None else 0), 0, 0, False
    before = None
    for frame in read_frames(log, header):
        is_ours = frame.salts == header.salts
        if broken is None and not (is_ours and frame.is_intact):
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
    """How much of the log behind byte `end` is in the database already.

    If that is only a part, the log up to the break does not fit the database any more. When in
    doubt, SOME: a page that a transaction has left unchanged looks like one that was copied.
    """
    header, _ = find_header(log, page_size)
    if not header:
        return Checkpointed.NONE
    before: dict[int, bytes] = {}
    later: list[tuple[int, bytes]] = []
    ours = 0  # how many of these; leftovers of an older log follow
    for frame in read_frames(log, header):
        if frame.end <= end:
            before[frame.page] = _digest(frame.content)
            continue
        later.append((frame.page, _digest(frame.content) if frame.is_intact else _UNREADABLE))
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


def commits_not_checkpointed(
    log: BinaryIO, database: BinaryIO, page_size: Callable[[], int]
) -> int | None:
    """How many of the log's commits the database lacks; None if it is between two of them.

    A checkpoint may have been cut off; or a reader has kept it from the newest commits, and so from
    each page that they have written again, also as it was before.
    The database is as after commit n if each page is as the log had it then: for each n it is
    counted how many pages are.
    """
    header, is_readable = find_header(log, page_size)
    if not header or not is_readable:
        return 0
    commits = 0
    under_way: dict[int, bytes] = {}
    versions: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for frame in read_frames(log, header):
        if frame.salts != header.salts or not frame.is_intact:
            break
        under_way[frame.page] = _digest(frame.content)
        if frame.size:
            commits += 1
            for page, digest in under_way.items():
                versions[page].append((commits, digest))
            under_way.clear()
    changes = [0] * (commits + 2)  # of that count, from one commit to the next
    for page, those in versions.items():
        there = _in_database(database, header.page_size, page)
        ends = [*(commit for commit, _ in those[1:]), commits + 1]
        spans = [
            (begin, end)
            for (begin, digest), end in zip(those, ends, strict=True)
            if digest == there
        ]
        for begin, end in spans or [(0, those[0][0])]:  # no version in the log: an older one
            changes[begin] += 1
            changes[end] -= 1
    fitting = [n for n, pages in enumerate(accumulate(changes)) if pages == len(versions)]
    return commits - min(fitting[-1], commits) if fitting else None


def _in_database(database: BinaryIO, page_size: int, page: int) -> bytes:
    database.seek(max(page - 1, 0) * page_size)
    return _digest(database.read(page_size))


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def read_header(raw: bytes) -> Header | None:
    """Decode it; None if it is not valid, so that SQLite takes the log for empty."""
    if len(raw) < HEADER:
        return None
    magic, _, page_size, _, salts, *kept = struct.unpack(">4I8s2I", raw)
    order = _BYTE_ORDERS.get(magic)
    if not order or page_size not in PAGE_SIZES:
        return None
    sums = checksum(order, raw[:-8], (0, 0))
    return Header(order, page_size, salts, sums) if sums == tuple(kept) else None


def find_header(log: BinaryIO, page_size: Callable[[], int]) -> tuple[Header | None, bool]:
    """Read the header, or reconstruct it from the frames; and whether it was readable.

    The log is then at its first frame.
    """
    header = read_header(log.read(HEADER))
    if header:
        return header, True
    header = _guess_header(log, page_size())
    log.seek(HEADER)
    return header, False


def _guess_header(log: BinaryIO, page_size: int) -> Header | None:
    """The header that fits the first two frames that belong together."""
    for order in _BYTE_ORDERS.values():
        log.seek(HEADER)
        before = None
        for frame in read_frames(log, Header(order, page_size, b"", (0, 0))):
            if before and frame.is_next and frame.salts == before.salts:
                return Header(order, page_size, frame.salts, (0, 0))
            before = frame
    return None


def read_frames(log: BinaryIO, header: Header) -> Iterator[Frame]:
    """Read every complete frame, one at a time. The log has to be at the first one."""
    length = FRAME + header.page_size
    sums = header.sums
    before = Frame(0, HEADER, 0, 0, header.salts, sums, sums, is_next=False, content=b"")
    while len(raw := log.read(length)) == length:
        before = _read_frame(raw, before, header.order)
        yield before


def _read_frame(raw: bytes, before: Frame, order: str) -> Frame:
    """Decode a frame, whose checksum goes on from that of the frame before it.

    If it goes on from the one computed there, not from the one stored, then only the stored
    checksum of the frame before is damaged, and its bytes are right.
    """
    page, size, salts, *two = struct.unpack(">2I8s2I", raw[:FRAME])
    content, stored = raw[FRAME:], (two[0], two[1])
    summed = raw[:8] + content
    computed = checksum(order, summed, before.stored)
    is_next = computed == stored and (before.is_intact or _is_in_one_sector(before))
    if computed != stored and not before.is_intact:
        is_next = stored == checksum(order, summed, before.computed)
        computed = stored if is_next else computed
    end = before.end + len(raw)
    return Frame(before.end, end, page, size, salts, stored, computed, is_next, content)


def _is_in_one_sector(frame: Frame) -> bool:
    """Whether a crash leaves its header written as a whole or not at all.

    If not, an old size, which marks a transaction's end, may stand beside a new checksum.
    """
    return frame.start // _SECTOR == (frame.start + FRAME - 1) // _SECTOR


def checksum(order: str, summed: bytes, sums: Sums) -> Sums:
    """SQLite's checksum, continued from `sums` over more bytes, a multiple of eight."""
    one, two = sums
    words = iter(struct.unpack(f"{order}{len(summed) // 4}I", summed))
    for even, odd in zip(words, words, strict=True):
        one = one + even + two & _MASK
        two = two + odd + one & _MASK
    return one, two
