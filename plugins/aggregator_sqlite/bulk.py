"""Statements about many rows at once.

While SQLite runs a statement, Python's other threads go on, and it waits for them before the next
one. An `executemany` runs a statement a row.
"""

import re
import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

_ROWS = (1024, 256, 64, 16, 8, 4, 3, 2, 1)  # in a statement
_ROW = re.compile(r"\(\?(?:, \?)*\)")


class Bulk:
    """A statement that is given about one row, which stands there as `(?, ?)`, and run about many.

    A statement holds copies of its rows, and until its next use: large ones are to be few.
    """

    def __init__(self, statement: str, most: int = _ROWS[0]) -> None:
        (row,) = _ROW.findall(statement)
        self._statements = [
            (rows, statement.replace(row, ", ".join([row] * rows)))
            for rows in _ROWS
            if rows <= most
        ]

    def __call__(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> list[Any]:
        """Run it about these rows; what it returns, in no order."""
        returned: list[Any] = []
        done = 0
        for count, statement in self._statements:
            while len(rows) - done >= count:
                some = rows[done : done + count]
                returned += db.execute(statement, tuple(chain.from_iterable(some)))
                done += count
        return returned
