"""What `aggregator check` does with what is read for itself: runs, history, quarantine."""

import sqlite3
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aggregator.errors import StoreError
from aggregator_sqlite import findings, quarantine, sums
from aggregator_sqlite.check_events import SUMS, Events
from aggregator_sqlite.findings import Findings
from aggregator_sqlite.runs import PAGES_AT_ONCE, Run, load_runs

ROWS_AT_ONCE = 2_000
ENTRIES_AT_ONCE = 50

NEXT_ENTRIES = "SELECT id FROM quarantine WHERE id > ? ORDER BY id LIMIT ?"


class KeysInRuns:
    """Reads the runs of the index of keys, and holds what is in them against the events."""

    def __init__(self, found: Findings, events: Events) -> None:
        self._found = found
        self._events = events
        self._done: set[int] = set()  # ids
        self._run: Run | None = None  # being read
        self._page = self._sum = 0

    def read_some(self, db: sqlite3.Connection) -> bool:
        """Read some pages of a run; whether there may be more. One may be replaced meanwhile."""
        try:
            waiting = {run.id: run for run in load_runs(db) if run.id not in self._done}
            if self._run and self._run.id not in waiting:
                self._run = None
            if not self._run:
                self._run = next(iter(waiting.values()), None)
                self._page = self._sum = 0
            if not self._run:
                return False
            entries = self._run.some_entries(db, self._page, PAGES_AT_ONCE)
        except StoreError:
            self._found.add(findings.RUNS, "pages or fences are not as they were written")
            return False
        self._sum = (self._sum + sum(map(hash, entries))) % SUMS
        self._page += PAGES_AT_ONCE
        if self._page >= len(self._run.fences):
            self._compare(self._run)
            self._done.add(self._run.id)
        return True

    def _compare(self, run: Run) -> None:
        """The keys of the events from block to block, where all of them were read."""
        events = self._events
        after, upto = (bisect_left(events.ends, end) for end in (run.after, run.upto))
        is_known = upto < len(events.ends) and events.ends[upto] == run.upto
        if not (events.is_sure and is_known and events.ends[after] == run.after):
            return
        if (events.keys[upto] - events.keys[after]) % SUMS != self._sum:
            self._found.add(findings.RUNS, f"those of seq {run.after + 1} to {run.upto}")


@dataclass
class Again:
    """Reads a table of what came again, by the seq of the event that holds the key."""

    found: Findings
    some: str
    of_event: str
    is_whole: Callable[[dict[str, Any]], bool]
    after: int = -(2**62)

    def read_some(self, db: sqlite3.Connection) -> bool:
        """Read the rows of some events; whether there may be more."""
        rows = sums.rows(db, self.some, (self.after, ROWS_AT_ONCE))
        is_end = len(rows) < ROWS_AT_ONCE
        if not is_end:  # the last event may have more of them
            last = rows[-1]["seq"]
            rows = [row for row in rows if row["seq"] != last] or sums.rows(
                db, self.of_event, (last,)
            )
        for row in rows:
            if not self.is_whole(row):
                self.found.add(findings.HISTORY, row["seq"])
        before, self.after = self.after, rows[-1]["seq"] if rows else self.after
        return not is_end and self.after > before


@dataclass
class Entries:
    """Reads the quarantine."""

    found: Findings
    after: int = -(2**62)

    def read_some(self, db: sqlite3.Connection) -> bool:
        """Read some entries; whether there may be more."""
        ids = [number for (number,) in db.execute(NEXT_ENTRIES, (self.after, ENTRIES_AT_ONCE))]
        for number in ids:
            row = db.execute(quarantine.ENTRY, (number,)).fetchone()
            if not row or not quarantine.is_whole(row):
                self.found.add(findings.QUARANTINE, number)
        before, self.after = self.after, ids[-1] if ids else self.after
        return len(ids) == ENTRIES_AT_ONCE and self.after > before
