"""The index of keys: which event holds a key. It is derived from the events, which are the truth.

The newest keys are in memory alone, and are read from the events again when the store is opened.
Enough of them become a run, and runs that are alike are merged into a larger one: so no key is ever
written at a random place. Both is done within the transactions that store events, a little in each.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aggregator.errors import StoreError
from aggregator_sqlite import runs as on_disk
from aggregator_sqlite.atomic import atomic
from aggregator_sqlite.known import Known
from aggregator_sqlite.merging import AT_ONCE, Merge
from aggregator_sqlite.runs import KEY, LEAVES_AT_ONCE, Run

IN_MEMORY = 16_384  # keys, after which they become a run
ALIKE = 8  # runs that are merged into one
_LEVELS = 5  # as often a key is merged, in a store of half a thousand million

TAIL = "SELECT key, seq FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
INDEXED_TO = "SELECT indexed_to FROM meta"
SET_INDEXED_TO = "UPDATE meta SET indexed_to = ?"


@dataclass(frozen=True)
class State:
    """Where the committed keys are; replaced as a whole when a run is written or replaced."""

    recent: dict[bytes, int] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()  # those of the newest keys first

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the event that holds the key."""
        if seq := self.recent.get(key):
            return seq
        return next((seq for run in self.runs if (seq := run.find(db, key))), None)

    def replacing(self, old: Sequence[Run], new: Run) -> "State":
        """With the new run in place of the old ones."""
        left = [run for run in self.runs if run not in old]
        return State(self.recent, tuple(sorted([*left, new], key=_age)))


class Index:
    """Belongs to the connection that writes; `find` may be asked from others too.

    Begins with the runs that the file has. `read_some` is to be called until there is no more.
    """

    def __init__(self, db: sqlite3.Connection, known: Known) -> None:
        self.known = known
        """A superset of the keys in the runs, also of those whose fate is unknown."""
        found = on_disk.kept(db)
        known.is_complete |= not found
        self.state = State({}, tuple(sorted(found, key=_age)))
        self._merges: dict[int, Merge] = {}  # by the level of their runs
        self._removed = list(on_disk.left_over(db, found))  # their leaves are still there
        self._last_run = max((run.id for run in (*found, *self._removed)), default=0)
        self._due = 0  # keys to merge
        self._is_sound = True

    def read_some(self, db: sqlite3.Connection) -> bool:
        """Read keys that are in no run; whether there may be more. Makes runs where they are many.

        So the index is made, part by part, where there is none.
        """
        last = db.execute(INDEXED_TO).fetchone()[0]
        after = next(reversed(self.state.recent.values()), last)
        rows = db.execute(TAIL, (after, IN_MEMORY)).fetchall()
        if len(self.state.recent) >= IN_MEMORY:
            with atomic(db):
                state = self._work(db, self.state, len(self.state.recent))
            self.state = state
        self.state.recent.update(row for row in rows if len(row[0]) == KEY)
        return len(rows) == IN_MEMORY

    def find(self, db: sqlite3.Connection, key: bytes) -> int | None:
        """The seq of the committed event that holds the key.

        A run that was merged meanwhile has lost its leaves: then it is looked for again.
        """
        while True:
            state = self.state
            try:
                seq = state.find(db, key)
            except StoreError:
                if state is self.state:
                    raise
            else:
                if seq or state is self.state:
                    return seq

    def held(self, db: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Those of the keys that committed events hold, each with its event's seq."""
        if not self._is_sound:
            raise StoreError("a commit has failed: the index of keys must be read again")
        state = self.state
        wanted = set(keys)
        found = {key: state.recent[key] for key in wanted & state.recent.keys()}
        for key in self.known.may_hold(wanted) if state.runs else ():
            if key not in found and (seq := state.find(db, key)):
                found[key] = seq
        return found

    def commit(self, db: sqlite3.Connection, appended: dict[bytes, int]) -> None:
        """Commit the transaction that has appended these keys, and work on the runs in it."""
        self._is_sound = False
        state = self._work(db, self.state, len(appended))
        db.execute("COMMIT")
        state.recent.update(appended)
        self.state = state
        self._is_sound = True

    def _work(self, db: sqlite3.Connection, state: State, keys: int) -> State:
        """Write and merge runs, as much as so many new keys make necessary."""
        if len(state.recent) >= IN_MEMORY:
            state = self._flush(db, state)
        self._due += _LEVELS * keys
        while self._due >= AT_ONCE:
            self._due -= AT_ONCE
            if self._removed:
                self._remove_leaves(db)
            elif merge := self._next_merge(state):
                merge.step(db)
                if merge.is_done:
                    state = self._merged(merge, state)
            else:
                self._due = 0
        return state

    def _flush(self, db: sqlite3.Connection, state: State) -> State:
        """Make a run of the keys in memory."""
        run = self._new_run(0)
        run.write(db, sorted(map(on_disk.entry, state.recent, state.recent.values())))
        run.finish(db)
        db.execute(SET_INDEXED_TO, (max(state.recent.values()),))
        self.known.add(state.recent.keys())
        return State({}, (run, *state.runs))

    def _next_merge(self, state: State) -> Merge | None:
        """The one of the smallest runs. None before the filter is built: that reads the runs."""
        if not self.known.is_complete:
            return None
        for level in sorted({run.level for run in state.runs}):
            if level in self._merges:
                return self._merges[level]
            alike = [run for run in state.runs if run.level == level]
            if len(alike) >= ALIKE:
                self._merges[level] = Merge(alike[-ALIKE:], self._new_run(level + 1))
                return self._merges[level]
        return None

    def _merged(self, merge: Merge, state: State) -> State:
        del self._merges[merge.runs[0].level]
        self._removed += merge.runs
        return state.replacing(merge.runs, merge.into)

    def _remove_leaves(self, db: sqlite3.Connection) -> None:
        """The last ones first: what is left is found again, should the service end meanwhile."""
        run = self._removed.pop()
        left = max(0, len(run.fences) - LEAVES_AT_ONCE)
        run.remove_leaves(db, left, len(run.fences) - 1)
        if left:
            self._removed.append(Run(run.id, run.level, 0, run.fences[:left]))

    def _new_run(self, level: int) -> Run:
        self._last_run += 1
        return Run(self._last_run, level)


def _age(run: Run) -> tuple[int, int]:
    return run.level, -run.id
