"""The events that are published during a run, and the connections that publish them.

The content of an event is derived from its id, so that nobody has to remember it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any
from zlib import crc32

import msgspec

from aggregator.client import ClientError

_TOPICS = 5
_LARGE = 20_000  # bytes, in one event of fifty
_SIZES = (1, 1, 2, 5, 20, 50)  # events in a request
_STRICT = 0.05  # the part of the requests that are strict
_PAUSE = 0.02  # seconds between tries


@dataclass(frozen=True)
class Sent:
    """One event of a request."""

    event_id: str
    is_conflicting: bool = False
    """Whether its content differs from what is stored under its key."""
    is_invalid: bool = False

    @property
    def kind(self) -> str:
        """`good`, `conflicting` or `invalid`."""
        if self.is_invalid:
            return "invalid"
        return "conflicting" if self.is_conflicting else "good"

    @property
    def topic(self) -> str:
        """Derived from the id, like everything else."""
        return f"proof-{self._number % _TOPICS}"

    def members(self) -> dict[str, Any]:
        """The event as it is sent."""
        number = self._number
        size = number // 50 % _LARGE if number % 50 == 0 else number % 100
        return {
            "topic": self.topic,
            "event_id": self.event_id,
            "timestamp": "none" if self.is_invalid else "2026-01-31T12:00:00Z",
            "source": f"source-{number % 3}",
            "payload": {
                "number": number,
                "is_conflicting": self.is_conflicting,
                "filler": "x" * size,
            },
        }

    @property
    def _number(self) -> int:
        return crc32(self.event_id.encode())


@dataclass(frozen=True)
class Request:
    """Events that are sent together: all of them or none, if it is strict."""

    events: tuple[Sent, ...]
    is_strict: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether the service has to refuse those of its events that are good."""
        return self.is_strict and any(event.kind != "good" for event in self.events)

    @property
    def body(self) -> bytes:
        """The JSON array of its events."""
        return msgspec.json.encode([event.members() for event in self.events])


def resend(event_ids: list[str]) -> Request:
    """A request with events that were sent before."""
    return Request(tuple(map(Sent, event_ids)))


class Script:
    """The requests of one connection, the same for the same seed.

    The connection repeats each request until it is answered. So whatever it has sent before is
    stored by then: to send it again makes a duplicate, or a conflict if the content differs.
    """

    def __init__(self, seed: str, connection: int) -> None:
        self._random = Random(f"{seed} {connection}")
        self._connection = connection
        self._number = 0
        self._stored: list[str] = []

    def next(self) -> Request:
        """The next request: mostly new events, and some of every other kind."""
        events: list[Sent] = []
        for _ in range(self._random.choice(_SIZES)):
            events.append(self._event(events))
        request = Request(tuple(events), self._random.random() < _STRICT)
        if not request.is_refused:
            fresh = (event.event_id for event in events if not event.is_invalid)
            self._stored += dict.fromkeys(fresh)
        return request

    def _event(self, before: list[Sent]) -> Sent:
        self._number += 1
        dice = self._random.random()
        if dice < 0.05:
            return Sent(f"shared-{self._number // 10}")  # other connections send it too
        if dice < 0.15 and self._stored:
            return Sent(self._random.choice(self._stored))
        if dice < 0.18 and self._stored:
            return Sent(self._random.choice(self._stored), is_conflicting=True)
        if dice < 0.21:
            return Sent(f"{self._connection}-{self._number}", is_invalid=True)
        if dice < 0.25 and before:
            return self._random.choice(before)
        return Sent(f"{self._connection}-{self._number}")


class Publishers:
    """Connections that publish while the service is up, each its own script.

    `send` raises ClientError while nobody knows what became of the request; it is then repeated.
    """

    def __init__(
        self, send: Callable[[Request], Awaitable[object]], seed: str, connections: int
    ) -> None:
        self._send = send
        self._scripts = [Script(seed, number) for number in range(connections)]
        self._tasks: list[asyncio.Task[None]] = []
        self._up = asyncio.Event()
        self._is_over = False

    def start(self) -> None:
        """Begin; nothing is sent before `resume`."""
        self._tasks = [asyncio.create_task(self._run(script)) for script in self._scripts]

    def pause(self) -> None:
        """Send nothing more until `resume`: the service is down."""
        self._up.clear()

    def resume(self) -> None:
        """Go on: the service is up."""
        self._up.set()

    async def finish(self, seconds: float) -> bool:
        """End once the requests under way are answered; whether they were, in that time."""
        self._is_over = True
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        await self.stop()
        return not late

    async def stop(self) -> None:
        """End at once. Raises the error that has ended a connection early, if there is one."""
        for task in self._tasks:
            task.cancel()
        for error in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(error, Exception):
                raise error

    async def _run(self, script: Script) -> None:
        while not self._is_over:
            request = script.next()
            while not await self._is_answered(request):
                await asyncio.sleep(_PAUSE)

    async def _is_answered(self, request: Request) -> bool:
        await self._up.wait()
        try:
            await self._send(request)
        except ClientError:
            return False
        return True
