"""Whether a log is damaged where no crash can have damaged it.

docs/decisions/0013 has the reasons.
"""

from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from aggregator_sqlite.wal import HEADER, Header, find_header, read_frames


class Findings(NamedTuple):
    """What is in a log, in bytes and in commits."""

    end: int  # SQLite reads no further: the end of the last transaction before the break
    commits: int  # up to there
    is_damaged: bool  # a later transaction was begun than the one in which the break is
    lost: int  # commits behind the break, as far as they can be told from what is left
    salts: bytes


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
