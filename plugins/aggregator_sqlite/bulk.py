"""Inserts many rows with few statements.

While SQLite runs a statement, Python's other threads go on, and it waits for them before the next
one. An `executemany` runs a statement a row.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain

_ROWS = (1024, 256, 64, 16, 4, 1)  # in a statement


class Insert:
    """Rows of one table. `statement` inserts one, and ends with its VALUES.

    A statement holds copies of its rows, and until its next use: large ones are to be few.
    """

    def __init__(self, statement: str, most: int = _ROWS[0]) -> None:
        row = statement[statement.rindex("(") :]
        self._statements = [
            (rows, statement + f", {row}" * (rows - 1)) for rows in _ROWS if rows <= most
        ]

    def __call__(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert these rows."""
        done = 0
        for count, statement in self._statements:
            while len(rows) - done >= count:
                some = rows[done : done + count]
                db.execute(statement, tuple(chain.from_iterable(some)))
                done += count
