"""How much of what stands behind a break in the log a checkpoint has copied into the database.

If it is some of it, the database is no longer what the log before the break can be read with.
"""

from collections import defaultdict
from collections.abc import Callable
from enum import Enum, auto
from hashlib import blake2b
from typing import BinaryIO

from aggregator_sqlite.wal import find_header, read_frames

_BROKEN = b""


class Copied(Enum):
    """Of the transactions behind the break, as far as they can be read."""

    NONE = auto()
    SOME = auto()
    ALL = auto()


def how_much_is_copied(
    log: BinaryIO, database: BinaryIO, page_size: Callable[[], int], end: int
) -> Copied:
    """Look for the pages behind byte `end` of the log in the database.

    SOME when in doubt: a page that a transaction has not changed looks like one that was copied.
    """
    header, _ = find_header(log, page_size)
    if not header:
        return Copied.NONE
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
) -> Copied:
    newest = before | {page: digests[-1] for page, digests in behind.items()}
    if there == newest:
        return Copied.ALL
    is_ahead = any(
        there[page] in digests and there[page] != before.get(page)
        for page, digests in behind.items()
    )
    return Copied.SOME if is_ahead else Copied.NONE


def _in_database(database: BinaryIO, page_size: int, page: int) -> bytes:
    database.seek(max(page - 1, 0) * page_size)
    return _digest(database.read(page_size))


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
