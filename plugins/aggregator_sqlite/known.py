"""Tells of most keys that they are certainly new, without looking for them.

A Bloom filter in memory: 2.2 bytes a key, and one key in 5,000 has to be looked for in vain.
"""

from collections.abc import Collection, Iterable, Set
from threading import RLock

from rbloom import Bloom

_FIRST = 4_000_000  # keys
_MORE = 4  # times as many in the next filter: each of them is asked
_WRONG = 0.0002  # of the new keys seem to be known, at the most


class Known:
    """The keys that committed events hold, or somewhat more than these.

    Keys are only ever added, by any thread.
    """

    def __init__(self) -> None:
        self.is_learning = False
        """Whether the keys of the runs are being added: until then no run may be merged."""
        self.is_complete = False
        """Whether every key that is in a run was added; until then any key may be known."""
        self._filters: list[Bloom] = []
        self._capacity = self._room = 0
        self._turn = RLock()

    def reserve(self, keys: int) -> None:
        """Make room for so many, so that one filter holds them; nothing where there is some."""
        with self._turn:
            if not self._filters:
                self._grow(keys)

    def add(self, keys: Collection[bytes]) -> None:
        """Add these. Where the room is used up, another filter has more of it."""
        with self._turn:
            if self._room < len(keys):
                self._grow(_MORE * self._capacity)
            self._filters[-1].update(keys)
            self._room -= len(keys)

    def may_hold(self, keys: Set[bytes]) -> Set[bytes]:
        """Those of the keys that may be held."""
        if not self.is_complete:
            return keys
        return {key for one in tuple(self._filters) for key in keys if key in one}

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of the keys that were certainly never added, however complete it is."""
        filters = tuple(self._filters)
        return [key for key in keys if not any(key in one for one in filters)]

    def _grow(self, keys: int) -> None:
        self._capacity = self._room = max(keys, _FIRST)
        self._filters.append(Bloom(self._room, _WRONG))
