"""The events that are published during a run, and the connections that publish them.

The content of an event is derived from its id, so that nobody has to remember it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any
from zlib import crc32

import msgspec

from aggregator.client import ClientError

_LARGE = 20_000  # bytes, in one event of fifty
_SIZES = (1, 1, 2, 5, 20, 50)  # events in a request
MOST = max(_SIZES)
"""Events in a request at most."""
_STRICT = 0.05  # the part of the requests that are strict
_ASYNC = 0.12  # the part of those whose outcome is not waited for
_SHARED_IDS = 1000  # event ids, on a topic where the id alone does not make the key
_PAUSE = 0.02  # seconds between tries

HEADERS = {"X-Proof": "yes"}
"""Those of every request: the keys of one topic are made of one of them too."""
BY_ID, QUARANTINING, BY_FIELD, BY_SOURCE, CLOUD, ASYNC = (f"proof-{one}" for one in range(6))
"""The topics. On the third to the fifth event ids are shared, and the rest of the key differs; on
the last one are all events that are sent with `respond-async`."""
_TOPICS = (BY_ID, QUARANTINING, BY_FIELD, BY_SOURCE, CLOUD)
UNIQUE_IDS = (BY_ID, QUARANTINING, ASYNC)
"""The topics on which an event is found by its id."""
FIELD = "/name"
"""The place of an event's name in its payload, by which events are found."""
KEYS = {
    BY_FIELD: f"topic,{FIELD}",
    BY_SOURCE: "topic,event_id,header:x-proof,source",
    ASYNC: "topic,event_id,header:x-proof",  # the quarantine has to keep the header
}
"""What the keys of a topic are made of, where that is not the usual."""


NAMELESS = "an event that nobody has sent"


@dataclass(frozen=True)
class Sent:
    """One event of a request, known by its name, which no other event has."""

    name: str
    is_conflicting: bool = False
    """Whether its content differs from what is stored under its key."""
    is_invalid: bool = False

    @classmethod
    def of(cls, body: bytes) -> "Sent":
        """The event that was sent in these bytes; NAMELESS if they are none of ours."""
        try:
            members = _BODY.decode(body)
        except ValueError:
            return cls(NAMELESS)
        payload = members.payload or members.data
        is_invalid = _NO_TIME in (members.timestamp, members.time)
        return cls(payload.name, payload.is_conflicting, is_invalid) if payload else cls(NAMELESS)

    @property
    def kind(self) -> str:
        """`good`, `conflicting` or `invalid`."""
        if self.is_invalid:
            return "invalid"
        return "conflicting" if self.is_conflicting else "good"

    @property
    def topic(self) -> str:
        """Derived from the name, like everything else."""
        return ASYNC if self.name.startswith(ASYNC) else _TOPICS[self._number % len(_TOPICS)]

    @property
    def event_id(self) -> str:
        """Unique on most topics; on the others what else the key is made of differs."""
        return self.name if self.topic in UNIQUE_IDS else str(self._number // 7 % _SHARED_IDS)

    @property
    def source(self) -> str:
        """An own one where event ids are shared: it tells the events apart."""
        own = self.topic in (BY_FIELD, BY_SOURCE, CLOUD)
        return f"source-{self.name if own else self._number % 3}"

    @property
    def place(self) -> tuple[str, str, str]:
        """Topic, id and source, by which the first event of them is found."""
        return self.topic, self.event_id, self.source

    def members(self) -> dict[str, Any]:
        """The event as it is read."""
        number = self._number
        size = number // 50 % _LARGE if number % 50 == 0 else number % 100
        return {
            "topic": self.topic,
            "event_id": self.event_id,
            "timestamp": _NO_TIME if self.is_invalid else _TIME,
            "source": self.source,
            "payload": {
                "name": self.name,
                "is_conflicting": self.is_conflicting,
                "filler": "x" * size,
            },
        }

    def as_sent(self) -> dict[str, Any]:
        """The event as it is sent: on one topic as a CloudEvent."""
        members = self.members()
        if self.topic != CLOUD:
            return members
        return {"specversion": "1.0"} | {_AS_CLOUD[name]: members[name] for name in members}

    @property
    def _number(self) -> int:
        return crc32(self.name.encode())


_TIME, _NO_TIME = "2026-01-31T12:00:00Z", "none"
_AS_CLOUD = {
    "topic": "type",
    "event_id": "id",
    "timestamp": "time",
    "source": "source",
    "payload": "data",
}


@dataclass(frozen=True)
class Request:
    """Events that are sent together: all of them or none, if it is strict."""

    events: tuple[Sent, ...]
    is_strict: bool = False
    is_async: bool = False
    """Whether it is answered before anything is stored."""

    @property
    def is_refused(self) -> bool:
        """Whether the service has to refuse those of its events that are good."""
        return self.is_strict and any(event.kind != "good" for event in self.events)

    @property
    def body(self) -> bytes:
        """The JSON array of its events."""
        return msgspec.json.encode([event.as_sent() for event in self.events])


def resend(names: Iterable[str], most: int) -> Iterator[Request]:
    """Requests of so many events at most with events that were sent before."""
    sent = tuple(map(Sent, names))
    for start in range(0, len(sent), most):
        yield Request(sent[start : start + most])


def name_of(payload: bytes) -> str:
    """The name of the event that has this payload; NAMELESS if it is none of ours."""
    try:
        return _PAYLOAD.decode(payload).name
    except ValueError:
        return NAMELESS


class _Payload(msgspec.Struct):
    name: str
    is_conflicting: bool


class _Body(msgspec.Struct):
    """A plain event or a CloudEvent, as it was sent."""

    timestamp: str = ""
    time: str = ""
    payload: _Payload | None = None
    data: _Payload | None = None


_PAYLOAD = msgspec.json.Decoder(_Payload)
_BODY = msgspec.json.Decoder(_Body)


class Script:
    """The requests of one connection, the same for the same seed.

    The connection repeats each request until it is answered. So whatever it has sent before is
    stored by then, unless that was asynchronous: to send it again makes a duplicate, or a conflict
    if the content differs.
    """

    def __init__(self, seed: str, connection: int, *, has_async: bool = True) -> None:
        self._random = Random(f"{seed} {connection}")
        self._connection = connection
        self._async = _ASYNC if has_async else 0.0
        self._number = 0
        self._stored: list[str] = []
        self._stored_of_async: list[str] = []

    def next(self) -> Request:
        """The next request: mostly new events, and some of every other kind."""
        kind = self._random.random()
        is_async = kind < self._async
        stored = self._stored_of_async if is_async else self._stored
        events: list[Sent] = []
        for _ in range(self._random.choice(_SIZES)):
            events.append(self._event(events, stored, is_async=is_async))
        request = Request(tuple(events), not is_async and kind > 1 - _STRICT, is_async)
        if not request.is_refused and not is_async:
            fresh = dict.fromkeys(event.name for event in events if not event.is_invalid)
            self._stored += fresh
            self._stored_of_async += (name for name in fresh if name.startswith(ASYNC))
        return request

    def _event(self, before: list[Sent], stored: list[str], *, is_async: bool) -> Sent:
        self._number += 1
        dice = self._random.random()
        name = f"{self._connection}-{self._number}"
        if is_async or dice > 0.95:
            name = f"{ASYNC}-{name}"
        if dice < 0.05 and not is_async:
            return Sent(f"shared-{self._number // 10}")  # other connections send it too
        if dice < 0.15 and stored:
            return Sent(self._random.choice(stored))
        if dice < 0.18 and stored:
            return Sent(self._random.choice(stored), is_conflicting=True)
        if dice < 0.21:
            return Sent(name, is_invalid=True)
        if dice < 0.25 and before:
            return self._random.choice(before)
        return Sent(name)


class Publishers:
    """Connections that publish while the service is up, each its own script.

    `send` raises ClientError while nobody knows what became of the request; it is then repeated.
    """

    def __init__(
        self,
        send: Callable[[Request], Awaitable[object]],
        seed: str,
        connections: int,
        *,
        has_async: bool = True,
    ) -> None:
        self._send = send
        scripts = (Script(seed, number, has_async=has_async) for number in range(connections))
        self._scripts = list(scripts)
        self._tasks: list[asyncio.Task[None]] = []
        self._up = asyncio.Event()
        self._is_over = False
        self._under_way = 0

    def start(self) -> None:
        """Begin; nothing is sent before `resume`."""
        self._tasks = [asyncio.create_task(self._run(script)) for script in self._scripts]

    def pause(self) -> None:
        """Send nothing more until `resume`: the service is down."""
        self._up.clear()

    def resume(self) -> None:
        """Go on: the service is up."""
        self._up.set()

    async def rest(self, seconds: float) -> bool:
        """Pause until nothing is under way any more; whether that was so in this time."""
        self.pause()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._under_way:
                    await asyncio.sleep(_PAUSE)
        return not self._under_way

    async def do(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do something as they publish: while the service is up, and `rest` waits for it."""
        await self._up.wait()
        self._under_way += 1
        try:
            await work()
        finally:
            self._under_way -= 1

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
        try:
            await self.do(lambda: self._send(request))
        except ClientError:
            return False
        return True
