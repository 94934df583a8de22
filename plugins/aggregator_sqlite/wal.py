"""What a write-ahead log holds, read on behind the place where SQLite stops.

Format and checksums: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

HEADER = 32
"""Bytes of the log's header."""
FRAME = 24
"""Bytes of a frame's header; a page follows."""
PAGE_SIZES = {2**power for power in range(9, 17)}
"""All that SQLite knows, in bytes."""

_SECTOR = 512  # bytes that a disk writes as a whole or not at all
_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
_MASK = 0xFFFFFFFF

Sums = tuple[int, int]


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
