"""Inserts many rows with few statements.

While a statement runs, other threads go on; between two rows of an `executemany` they do not get
far, and each row waits for them (measured: docs/decisions/0017-the-index-of-keys-is-derived.md).
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain

_ROWS = 50  # in a statement: more of them save nothing


class Insert:
    """Rows of one table. `statement` inserts one, and ends with its VALUES."""

    def __init__(self, statement: str) -> None:
        self._one = statement
        row = statement[statement.rindex("(") :]
        self._many = statement + f", {row}" * (_ROWS - 1)

    def __call__(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert these rows."""
        whole = len(rows) // _ROWS * _ROWS
        for first in range(0, whole, _ROWS):
            db.execute(self._many, tuple(chain.from_iterable(rows[first : first + _ROWS])))
        db.executemany(self._one, rows[whole:])
