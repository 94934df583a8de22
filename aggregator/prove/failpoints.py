"""Where the service is to be killed, and the failpoints in it that do it.

They wrap what the contracts name (stages, store, transaction), so they work for every plugin. In
the same places the service fails on purpose, as `faults.py` says.
"""

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from random import Random
from typing import Any, NamedTuple, cast

from aiohttp import web

from aggregator.config import Settings
from aggregator.event import Event
from aggregator.pipeline.runner import NamedStage
from aggregator.plugins import Plugin, Plugins
from aggregator.prove.faults import Faults
from aggregator.stage import BatchStage, IntakeStage
from aggregator.store import KeyOwner, Store, StoreTransaction
from aggregator.transaction import Transaction


class Point(Enum):
    """A named point on the way of an event, or a moment chosen from outside."""

    DECODED = "after decoding"
    CLAIMED = "after claiming"
    APPENDED = "after appending"
    COMMITTING = "before the commit"
    COMMITTED = "after the commit"
    ANSWERING = "before the answer"
    ANY = "at a random moment"
    STARTING = "while it opens its store"
    STOPPING = "while it stops"


class Kill(NamedTuple):
    """Kill the service when it reaches the point for the nth time.

    For the points that are chosen from outside, `times` is a number of answers.
    """

    point: Point
    times: int
    chance: float
    """From 0 to 1: how much later than that, for points chosen from outside."""


def kills(seed: int) -> Iterator[Kill]:
    """Endless kills, the same for the same seed; every point comes as often as the others."""
    random = Random(f"{seed} kills")
    while True:
        points = list(Point)
        random.shuffle(points)
        for point in points:
            yield Kill(point, 1 + int(random.expovariate(1 / 15)), random.random())


class Failpoint:
    """Ends the process, as `kill -9` does, when the point is reached for the nth time.

    At once, or so many seconds later.
    """

    def __init__(self, point: Point, times: int, seconds: float = 0.0) -> None:
        self._point = point
        self._left = times
        self._seconds = seconds

    def reach(self, point: Point) -> None:
        """The point is reached: die, or go on."""
        if point is self._point:
            self._left -= 1
            if self._left == 0:
                self._fire()

    def _fire(self) -> None:
        if self._seconds:
            timer = threading.Timer(self._seconds, _die)
            timer.daemon = True
            timer.start()
        else:
            _die()

    def leave(self, point: Point) -> None:
        """What happens at the point is over: die now, if it was to be a little later."""
        if point is self._point and self._left <= 0:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FailpointPlugins(Plugins):
    """The installed plugins, with failpoints in the store and in a stage on each side."""

    def __init__(self, found: Iterable[Plugin], failpoint: Failpoint, faults: Faults) -> None:
        super().__init__(found)
        self._failpoint = failpoint
        self._faults = faults

    def stages(self, *asked: Any) -> tuple[list[NamedStage], list[NamedStage]]:
        """The stages of both sides: a first one that decodes nothing, and one before the last."""
        left, right = super().stages(*asked)
        decoded = NamedStage("decoded", _Decoded(self._failpoint, self._faults))
        failing = NamedStage("failing", _Failing(self._faults))
        return [decoded, *left], [*right[:-1], failing, *right[-1:]]

    def store(self, settings: Settings) -> Store:
        """The store of the URL, with failpoints around it."""
        store = super().store(settings)
        store.grow_early()
        return cast("Store", _Store(store, self._failpoint, self._faults))


class _Decoded(IntakeStage):
    def __init__(self, failpoint: Failpoint, faults: Faults) -> None:
        self._failpoint = failpoint
        self._faults = faults

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        self._failpoint.reach(Point.DECODED)
        self._faults.in_intake()
        return events


class _Failing(BatchStage):
    """Stands behind the claims and before the events are stored."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def process(self, events: Sequence[Event], _: Transaction) -> Sequence[Event]:
        self._faults.in_stage()
        return events


class _Store:
    """Any store, with failpoints where it is opened, closed, and in its transactions.

    It is an instance of what the store is one of, so that it passes for one with its mixins.
    """

    def __init__(self, store: Store, failpoint: Failpoint, faults: Faults) -> None:
        self._store = store
        self._failpoint = failpoint
        self._faults = faults

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._store.__class__  # what it passes for itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open(self, *given: Any, **named: Any) -> None:
        self._failpoint.reach(Point.STARTING)
        await self._store.open(*given, **named)

    async def reopen(self) -> None:
        self._faults.in_reopen()
        await self._store.reopen()

    async def close(self) -> None:
        self._failpoint.reach(Point.STOPPING)
        await self._store.close()
        self._failpoint.leave(Point.STOPPING)

    def transaction(self) -> AbstractAsyncContextManager[StoreTransaction]:
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[StoreTransaction]:
        async with self._store.transaction() as tx:
            yield cast("StoreTransaction", _Transaction(tx, self._failpoint, self._faults))
            self._failpoint.reach(Point.COMMITTING)
            self._faults.in_store()
        self._failpoint.reach(Point.COMMITTED)
        self._faults.after_commit()


class _Transaction:
    def __init__(self, tx: StoreTransaction, failpoint: Failpoint, faults: Faults) -> None:
        self._tx = tx
        self._failpoint = failpoint
        self._faults = faults

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._tx.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        owners = await self._tx.claim(keys)
        self._failpoint.reach(Point.CLAIMED)
        self._faults.in_store()
        return owners

    async def append(self, events: Sequence[Event]) -> list[int]:
        seqs = await self._tx.append(events)
        self._failpoint.reach(Point.APPENDED)
        self._faults.in_store()
        return seqs


def before_answer(failpoint: Failpoint) -> Callable[[web.Request, web.StreamResponse], Any]:
    """A signal handler of aiohttp: reaches the point before an answer to a publish is sent."""

    async def prepare(request: web.Request, answer: web.StreamResponse) -> None:
        if request.path == "/publish" and answer.status < 500:
            failpoint.reach(Point.ANSWERING)

    return prepare
