"""Readers who read all the while: one follows the stream, one makes exports.

Both go on after each kill, and what they got is held against what is stored in the end.
"""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from aggregator.client import ClientError, StoredEvent
from aggregator.prove.journal import JournaledClient, Promise
from aggregator.prove.workload import name_of

_PAUSE = 0.05  # seconds between tries
_BETWEEN_EXPORTS = 0.2  # seconds
_LONGEST_EXPORT = 2_000  # events, about
_NOT_THERE = (400, 410)  # to whoever wants to go on after an event that is not stored


class Readers:
    """What they got so far."""

    def __init__(self, client: JournaledClient, seed: int) -> None:
        self._client = client
        self._breaches = client.journal.breaches
        self._random = Random(f"{seed} readers")
        self._names: dict[int, str] = {}  # by seq
        self._followed: list[int] = []
        self._exported: list[tuple[int, list[int]]] = []  # after which seq, and what came
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def followed(self) -> int:
        """Events that the stream has brought."""
        return len(self._followed)

    @property
    def exports(self) -> int:
        """Exports that were begun, some of which a kill has cut off."""
        return len(self._exported)

    def start(self) -> None:
        """Begin; they are patient while nobody answers."""
        reading = (self._repeat(self._follow, _PAUSE), self._repeat(self._export, _BETWEEN_EXPORTS))
        self._tasks = [asyncio.create_task(one) for one in reading]

    async def stop(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check_so_far(self) -> None:
        """Check that the stream has brought all that was acknowledged, up to where it is."""
        acknowledged = {seq for seq in self._client.journal.seqs.values() if seq <= self._last}
        if missing := acknowledged.difference(self._followed):
            self._note("the stream has left out what was acknowledged", min(missing))

    async def check(self, stored: dict[int, str], seconds: float) -> None:
        """Once the stream has come to its end, compare all with what is stored, name by seq."""
        newest = max(stored, default=0)
        deadline = asyncio.get_running_loop().time() + seconds
        while self._last < newest and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_PAUSE)
        await self.stop()
        if self._last < newest:
            self._note("a reader of the stream does not get the last events", newest)
        for how, after, seqs in (
            ("the stream", 0, self._followed),
            *(("an export", after, seqs) for after, seqs in self._exported if seqs),
        ):
            last = max(seqs, default=0)
            if missing := {seq for seq in stored if after < seq <= last}.difference(seqs):
                self._note(f"{how} has left out what is stored", min(missing))
        for seq, name in self._names.items():
            if stored.get(seq) != name:
                self._note("a reader has got what is not stored", f"seq {seq}, {name}")

    @property
    def _last(self) -> int:
        return self._followed[-1] if self._followed else 0

    async def _follow(self) -> None:
        async for event in self._client.follow(self._last):
            self._get(event, self._followed, self._last, "the stream")

    async def _export(self) -> None:
        after = max(0, self._last - self._random.randrange(_LONGEST_EXPORT))
        seqs: list[int] = []
        self._exported.append((after, seqs))
        async for event in self._client.events(after):
            self._get(event, seqs, seqs[-1] if seqs else after, "an export")

    def _get(self, event: StoredEvent, seqs: list[int], last: int, what: str) -> None:
        if event.seq <= last:
            self._note(f"{what} has brought an event again, or too late", event.seq)
        seqs.append(event.seq)
        name = name_of(event.payload)
        if self._names.setdefault(event.seq, name) != name:
            self._note("two events were read under one seq", f"{event.seq}, {name}")

    async def _repeat(self, read: Any, pause: float) -> None:
        while True:
            try:
                work: Coroutine[Any, Any, None] = read()
                await work
            except ClientError as error:
                if error.status in _NOT_THERE:
                    self._note("a reader has got what is not stored", error)
            await asyncio.sleep(pause)

    def _note(self, how: str, example: object) -> None:
        self._breaches.note(Promise.READ, how, example)
