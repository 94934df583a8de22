"""Rows that SQLite itself may be unable to read."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class Unreadable(ValueError):
    """What SQLite has found where a row is makes no sense to it."""


@dataclass
class LeftAlone:
    """What the writer could not read, and leaves alone until the service is started again.

    Within a transaction SQLite commits nothing after that. So it costs one batch, and not each in
    which somebody asks for it again.
    """

    blocks: set[int] = field(default_factory=set)  # by their first seqs
    levels: set[int] = field(default_factory=set)  # of runs that are not merged
    runs: set[int] = field(default_factory=set)  # that have gone, by their ids: their leaves stay


@contextmanager
def reading() -> Iterator[None]:
    """Raises Unreadable where SQLite says so of what is read within."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise Unreadable(error) from error
        raise  # all else may be better next time


def row_at(db: sqlite3.Connection, statement: str, seq: int) -> Any:
    """The row that the statement finds for that seq, or None. Raises Unreadable."""
    with reading():
        return db.execute(statement, (seq,)).fetchone()
