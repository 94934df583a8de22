"""Contents that are too much for a batch, compared beside the worker while others are stored.

In slices of about CONTENTS_BYTES, one at a time in the whole process: the clients take turns, and
so do the submissions of each. So nobody waits long for somebody else's, and memory stays flat.
Nothing of a submission is stored before its contents are compared, and it counts as being under way
until then.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
from typing import ClassVar, TypeVar
from weakref import WeakValueDictionary

from aggregator.comparison import TOLD, Pair, Rivals, Verdicts, compare, rivals, told
from aggregator.errors import StoreFault, Unavailable
from aggregator.event import Submission
from aggregator.store import CONTENTS_BYTES, Content, Store

_TOO_MUCH = "The request compares too much: send fewer events at a time."
_NO_TIME = "The service is stopping, and has not compared the request with what is stored."
_NOTHING = "the store was asked for contents, and gave none"

T = TypeVar("T")

Together = list[tuple[Rivals, Content]]


class Comparison:
    """What of a submission is to be compared, and what was found."""

    most: ClassVar[int] = 67_108_864
    """Bytes, stored and sent, that are compared for one submission of several events."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.verdicts: Verdicts = {}
        self.size = 0
        """How many bytes were compared so far."""
        self.room = TOLD
        """How many differences may still be told."""
        self._own: deque[tuple[Rivals, Content]] = deque()
        self._stored: deque[Rivals] = deque()

    def ask(self, pairs: Sequence[Pair], uncommitted: frozenset[int]) -> None:
        """Compare these next.

        Not those whose owner was stored in the transaction that was rolled back, and is no event of
        this submission: they will be asked for again once it is committed.
        """
        self._own.clear()  # what is left of a slice that could not be read is asked for anew
        self._stored.clear()
        own = {(event.key, event.digest): event for event in self.submission.events}
        for some in rivals(pairs):
            if one := own.get((some.events[0].key, some.owner.digest)):
                content = Content(one.source, one.payload, one.payload_kind)
                self._own.append((some, content))
            elif some.owner.seq not in uncommitted:
                self._stored.append(some)

    @property
    def is_over(self) -> bool:
        """Whether all that was asked for is compared."""
        return not (self._own or self._stored)

    async def take_slice(self, store: Store) -> Together:
        """What is compared next. Raises Unavailable where that comes to too much in all."""
        together = self._take_own() if self._own else await self._read(store)
        self.size += sum(some.size(stored) for some, stored in together)
        if self.size > self.most and len(self.submission.events) > 1:
            raise Unavailable(_TOO_MUCH)
        return together

    def note(self, found: Verdicts) -> None:
        """These were found."""
        self.verdicts.update(found)
        self.room -= told(found)

    def _take_own(self) -> Together:
        sizes = (some.size(stored) for some, stored in self._own)
        return [self._own.popleft() for _ in _first(self._own, sizes)]

    async def _read(self, store: Store) -> Together:
        asked = _first(self._stored, (some.sent for some in self._stored))
        contents = await store.contents([some.owner.seq for some in asked])
        if not contents:
            raise StoreFault(_NOTHING)
        return [(self._stored.popleft(), stored) for stored in contents]


def _first(waiting: Iterable[T], sizes: Iterable[int]) -> list[T]:
    """As many of them as come to about CONTENTS_BYTES; at least one."""
    before = takewhile(lambda size: size < CONTENTS_BYTES, accumulate(sizes, initial=0))
    return [one for one, _ in zip(waiting, before, strict=False)]


class Comparer:
    """Compares what no batch has room for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        """First come, first served: so each client gets a slice in turn."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """The same for the submissions of each client, of which one at a time waits for `_turn`."""
        self._is_stopped = False

    async def compare(self, comparison: Comparison, client: str = "") -> None:
        """Find the verdicts that it is asked for, in the client's turn.

        Raises StoreError if what is stored cannot be read, Unavailable if it is too much or, once
        `stop` was called, too late.
        """
        turn_of_client = self._turns.setdefault(client, asyncio.Lock())
        while not comparison.is_over:
            async with turn_of_client, self._turn:
                if self._is_stopped:
                    raise Unavailable(_NO_TIME)
                together = await comparison.take_slice(self._store)
                comparison.note(await asyncio.to_thread(compare, together, comparison.room))

    def stop(self) -> None:
        """Compare nothing more: there is no time left."""
        self._is_stopped = True
