"""A quiet moment in the life of the service: nobody publishes, and everything has to be back.

Whatever failed before, the counters agree with the answers, no room is taken up, each event of a
202 was settled, and the quarantine holds what it was said to hold.
"""

import asyncio
import time
from itertools import count

from aggregator.client import ClientError
from aggregator.prove.faults import Life
from aggregator.prove.journal import JournaledClient, Promise
from aggregator.prove.quarantine import QuarantineCheck
from aggregator.prove.reconcile import CounterCheck
from aggregator.prove.workload import Request, Sent

_PATIENCE = 10.0  # seconds for what should be back at once
_POLL = 0.02  # seconds


class QuietMoment:
    """What has to be so while nobody publishes."""

    def __init__(
        self, client: JournaledClient, counters: CounterCheck, quarantine: QuarantineCheck | None
    ) -> None:
        self._client = client
        self._breaches = client.journal.breaches
        self._counters = counters
        self._quarantine = quarantine
        self._numbers = count()

    async def check(self, life: Life) -> None:
        """Check all of it. Raises ClientError."""
        # What was answered 503 as it waited may still be under way, and its store fail once more.
        # Then it is committed, and counted only when the store is back.
        await self._client.settled_stats()
        await self._wait_ready()
        stats = await self._client.settled_stats()
        if stats.queue_size_current:
            how = "events stay under way for ever"
            self._breaches.note(Promise.ANSWERED, how, f"{stats.queue_size_current} events")
            return
        self._client.journal.accepted.settled()
        self._counters.check(stats, await self._client.topics())
        await self._check_budgets()
        if life.room:
            await self._check_queue(life.room)
        if self._quarantine:
            await self._quarantine.check()

    async def _wait_ready(self) -> None:
        """A store that has failed is read for the counters once it is back. Raises ClientError."""
        deadline = time.monotonic() + _PATIENCE
        while (why := await self._client.why_not_ready()) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
        if why:
            self._breaches.note(Promise.READY, "the store does not come back", why)

    async def _check_budgets(self) -> None:
        """Answers hold their bytes until they are written: a moment longer than they are read."""
        deadline = time.monotonic() + _PATIENCE
        while held := await self._client.held():
            if time.monotonic() > deadline:
                how = "bytes of requests and answers are held though none is under way"
                self._breaches.note(Promise.ROOM, how, f"{held} bytes")
                return
            await asyncio.sleep(_POLL)

    async def _check_queue(self, room: int) -> None:
        """Publish as many events at once as there is room for, until they are taken."""
        number = next(self._numbers)
        request = Request(tuple(Sent(f"room-{number}-{one}") for one in range(room)))
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                await self._client.send(request)
            except ClientError as error:
                if time.monotonic() > deadline:
                    how = "there is no room in the queue though nothing is under way"
                    self._breaches.note(Promise.ROOM, how, error)
                    return
                await asyncio.sleep(_POLL)
            else:
                return
