"""The checksums of rows that are counted up in place: counters, topics, and what came again.

Such a checksum is a sum: a hash over the texts in the row, and each number times a weight of its
own. So a statement that adds to a number adds the same to the checksum, times the weight: it need
not read the row, and a damaged row never comes to look whole again. And since no two weights are
the same odd number times a power of two, the difference that a single flipped bit makes tells in
which number it is, and what that was. docs/decisions/0024 has the reasons.
"""

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aggregator.errors import StoreError

WHAT_TO_DO = "`aggregator check` says what to do"

_WEIGHTS = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)
# Times are large: 19 times one of the year 9999 is an integer of SQLite's still.


class Culprit(NamedTuple):
    """The number in which a single bit has flipped."""

    column: str
    now: int
    was: int


class Sum:
    """What the checksum of a table's row is made of."""

    def __init__(self, *columns: str) -> None:
        """Of these columns, all of them integers."""
        self._weights = dict(zip(columns, _WEIGHTS, strict=False))

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that it is made of."""
        return tuple(self._weights)

    def into(self, statement: str, **marks: Mapping[str, str]) -> str:
        """The statement, with what is added to the checksum in place of each mark, `$new` say.

        That is told by the columns to which it is added, as SQL.
        """
        for mark, added in marks.items():
            weighed = (f"{self._weights[name]} * ({value})" for name, value in added.items())
            statement = statement.replace(f"${mark}", " + ".join(weighed))
        return statement

    def difference(self, row: Mapping[str, Any], texts: int = 0) -> int | None:
        """By how much the row's numbers exceed its checksum; None where one is no integer.

        `texts` is the hash over its texts. 0 means that the row is as it was written.
        """
        values: list[int] = [row[name] for name in (*self._weights, "checksum")]
        if not all(isinstance(value, int) for value in values):
            return None
        weights = (*self._weights.values(), -1)
        return texts + sum(weight * value for weight, value in zip(weights, values, strict=True))

    def culprit(self, row: Mapping[str, Any], difference: int) -> Culprit | None:
        """The number that explains the difference by one flipped bit, if there is one."""
        for column, weight in (*self._weights.items(), ("checksum", -1)):
            by, rest = divmod(difference, weight)
            if rest == 0 and abs(by).bit_count() == 1:
                return Culprit(column, row[column], row[column] - by)
        return None


COUNTERS = Sum(
    *("stored", "duplicate", "conflict", "invalid", "filtered", "refused", "failed_async"),
    *("topics", "last_seq", "quarantined", "evicted", "quarantine_bytes", "last_entry"),
)
TOPIC = Sum("stored", "duplicate", "conflict", "first_seq", "last_seq", "first_at", "last_at")
REDELIVERY = Sum("seq", "duplicates", "conflicts", "first_at", "last_at")
CONFLICT = Sum("seq", "times", "first_at", "last_at")

ALL_COUNTERS = "SELECT * FROM counters"
LAST_BLOCK = """
SELECT first_seq, first_seq_copy, length(CAST(coalesce(keys, '') AS BLOB)) / 16
FROM blocks ORDER BY first_seq DESC LIMIT 1
"""
TOPICS_WITH_EVENTS = "SELECT count(*) FROM topics WHERE stored > 0"


def over(*texts: object) -> int:
    """The hash over the texts of a row, and over what a flipped bit has made of one.

    A text is not the same as its bytes: in SQLite's header of a row a flipped bit makes it these.
    """
    summed = 0
    for text in texts:
        if isinstance(text, bytes):
            summed = zlib.crc32(text, summed + 1)
        else:
            summed = zlib.crc32(str(text).encode(), summed)
    return summed


def rows(db: sqlite3.Connection, statement: str, *wanted: Any) -> list[dict[str, Any]]:
    """Its rows, by the names of their columns."""
    found = db.execute(statement, *wanted)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def counters(db: sqlite3.Connection) -> dict[str, int]:
    """The counters, by name. Raises StoreError if they are not as they were written."""
    found = rows(db, ALL_COUNTERS)
    if why := why_damaged(found):
        raise damaged_counters(why)
    return found[0]


def why_damaged(found: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with the rows of counters, of which there is one; None if nothing is."""
    if len(found) != 1:
        return f"there are {len(found)} rows of them"
    difference = COUNTERS.difference(found[0])
    if difference is None:
        return "one of them is no number any more"
    culprit = COUNTERS.culprit(found[0], difference) if difference else None
    if culprit:
        return "{} is {} and was {}".format(*culprit)
    return "they do not match their checksum" if difference else None


def check_counters(db: sqlite3.Connection) -> None:
    """Hold the counters against the events, as far as that takes no time.

    Raises StoreError where they cannot both be true. Newer events may be gone: they were removed by
    hand, and their seqs are not given again.
    """
    counted = counters(db)
    last, copy, keys = db.execute(LAST_BLOCK).fetchone() or (1, 1, 0)
    end = last + keys - 1
    if last == copy and end > counted["last_seq"]:
        raise damaged_counters(f"last_seq is {counted['last_seq']}, and event {end} is stored")
    (topics,) = db.execute(TOPICS_WITH_EVENTS).fetchone()
    if topics != counted["topics"]:
        raise damaged_counters(f"topics is {counted['topics']}, and there are {topics}")


def damaged_counters(why: str) -> StoreError:
    """The error to raise where the counters are not as they were written."""
    return StoreError(f"the counters are damaged: {why}; {WHAT_TO_DO}")
