"""Merges runs into a larger one, a slice of the keys at a time."""

import sqlite3
from collections.abc import Sequence

from aggregator_sqlite.runs import END, PER_LEAF, Run, damaged

AT_ONCE = 8_192  # keys, about: keys are hashes, so a slice of them holds its share


class Merge:
    """One merge on its way. What it has written is none of the runs until it is done."""

    def __init__(self, runs: Sequence[Run], into: int) -> None:
        """Merge these, which follow each other, those of the newest events first."""
        self.runs = runs
        self.level = runs[0].level
        self.into = Run(into, self.level + 1, runs[-1].after, runs[0].upto)
        self.is_done = False
        keys = sum(run.keys for run in runs)
        self._slices = max(1, keys // AT_ONCE)
        self._slice = 0
        self._rest: list[bytes] = []  # too few for a leaf

    def step(self, db: sqlite3.Connection) -> None:
        """Merge the next slice; with the last one the runs are replaced. Raises StoreError."""
        low, high = (END * at // self._slices for at in (self._slice, self._slice + 1))
        found: list[bytes] = []
        for run in self.runs:
            found += run.between(db, low, high)
        found.sort()
        self._slice += 1
        self.is_done = self._slice == self._slices
        entries = self._rest + found
        whole = len(entries) if self.is_done else len(entries) // PER_LEAF * PER_LEAF
        self.into.write(db, entries[:whole])
        self._rest = entries[whole:]
        if self.is_done:
            if self.into.keys != sum(run.keys for run in self.runs):
                raise damaged()
            self.into.finish(db)
            for run in self.runs:
                run.remove(db)
