"""One row, which SQLite itself may be unable to read."""

import sqlite3
from typing import Any


class Unreadable(ValueError):
    """What SQLite has found where the row is makes no sense to it."""


def row_at(db: sqlite3.Connection, statement: str, seq: int) -> Any:
    """The row that the statement finds for that seq, or None. Raises Unreadable.

    A transaction in which that was raised cannot be committed any more: SQLite refuses.
    """
    try:
        return db.execute(statement, (seq,)).fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise Unreadable(error) from error
        raise  # all else may be better next time
