"""`GET /events/stream`: follows events as they are stored, as server-sent events."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import msgspec
from aiohttp import web

from aggregator.access import EVERYTHING, Access, access_of
from aggregator.api.permitted import check_query, permitted
from aggregator.api.query import parse_stream
from aggregator.api.sending import BodyWriter, ReadLimiter, Sender
from aggregator.api.stored_event import render_line
from aggregator.core.budget import Budget
from aggregator.errors import Gone, InvalidToken, QueueFull, Unavailable, Unparsable
from aggregator.store import Query, Span, Store, StoredEvent

log = logging.getLogger(__name__)

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # for proxies that would gather what should arrive at once
}
_RETRY = 2000  # milliseconds after which a client that was cut off should come back
_PATIENCE = 1.0  # seconds until a store that fails is asked again, or whether a client is there
_CROWDED = 0.1  # seconds until there may be room again for what is to be sent
_LAST_READ = 2.0  # seconds for clients to read what they are sent, once the service stops
_PACE = 0.05  # seconds between wakings at least
_PIECE = 32_768  # bytes that are worth a write
_RESTS = 9  # nobody is woken for so many times as long as the last reads took
_LONGEST_REST = 0.5  # seconds
_STOPPING = b"event: stopping\ndata: The service is stopping; come back later.\n\n"


@dataclass(frozen=True)
class PollResult:
    """What a follower finds after the last event it has seen."""

    messages: tuple[bytes, ...]
    """Several events in each."""
    last: int
    """The seq of the last event in them; 0 if there is none."""
    position: int
    """The seq after which to go on: all events up to it were looked at."""
    is_end: bool


class CommitNotifier:
    """Wakes those who follow, at most once in `pace` seconds however many commits there are.

    All wake at the same moment, so that they can share what they then read.
    """

    def __init__(self, pace: float = _PACE) -> None:
        self.number = 0
        """Grows with every waking; whoever waits says which one it has seen."""
        self._pace = pace
        self._last = float("-inf")
        self._rests_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()

    def announce(self) -> None:
        """Something was committed."""
        if self._timer is None:
            self._wake_in_time()

    def put_off(self, seconds: float) -> None:
        """Wake nobody for so many seconds from now; this replaces an earlier delay."""
        self._rests_until = asyncio.get_running_loop().time() + seconds
        if self._timer is not None:
            self._timer.cancel()
            self._wake_in_time()

    def wake(self) -> None:
        """Wake everybody now."""
        self.number += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = asyncio.get_running_loop().time()
        self._news.set()
        self._news = asyncio.Event()

    def _wake_in_time(self) -> None:
        loop = asyncio.get_running_loop()
        due = max(self._last + self._pace, self._rests_until)
        if loop.time() >= due:
            self.wake()
        else:
            self._timer = loop.call_at(due, self._wake_in_time)

    async def wait(self, seen: int, seconds: float) -> None:
        """Return once there is something newer than `seen`, or after so many seconds."""
        if self.number != seen:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()


_Asked = tuple[Query, tuple[str, ...], int]
"""What is read, on which topics, and the number of the commit that it is to be as new as."""


class SharedPoll:
    """Reads what is new. Followers who ask for the same at the same time share one read.

    When all have been answered, nobody is woken for a while, the longer the more there was to read:
    a hundred who follow different things would otherwise take the publishers' time.
    """

    def __init__(self, limiter: ReadLimiter, commits: CommitNotifier) -> None:
        self._limiter = limiter
        self._commits = commits
        self._under_way: dict[_Asked, asyncio.Task[PollResult]] = {}
        self._begun = 0.0

    async def span(self) -> Span:
        """Which seqs can be read now."""
        async with self._limiter.acquire() as store:
            return await store.span()

    async def poll(self, wanted: Query, access: Access = EVERYTHING) -> PollResult:
        """What comes after `wanted.after`, of what may be read.

        Raises Gone where that is kept no more.
        """
        # Not with one that began before the last waking: it may have missed what woke us.
        asked = wanted, access.topics, self._commits.number
        if not self._under_way:
            self._begun = asyncio.get_running_loop().time()
            self._commits.put_off(_LONGEST_REST)
        if asked not in self._under_way:
            self._under_way[asked] = task = asyncio.create_task(self._read(wanted, access))
            task.add_done_callback(lambda _: self._forget(asked))
        return await asyncio.shield(self._under_way[asked])

    def _forget(self, asked: _Asked) -> None:
        task = self._under_way.pop(asked)
        if not self._under_way:
            took = asyncio.get_running_loop().time() - self._begun
            self._commits.put_off(min(_RESTS * took, _LONGEST_REST))
        if not task.cancelled():
            task.exception()  # whoever asked may have left before it was raised

    async def _read(self, wanted: Query, access: Access) -> PollResult:
        after = wanted.after or 0
        async with self._limiter.acquire() as store:
            span = await store.span()
            _check_kept(after, span)
            if after >= span.newest:
                return PollResult((), 0, after, is_end=True)
            page = permitted(await store.events(wanted), access)
        last = page.events[-1].seq if page.events else 0
        messages = tuple(_joined(map(_as_message, page.events)))
        if page.next is None:
            return PollResult(messages, last, max(last, span.newest), is_end=True)
        return PollResult(messages, last, page.next, is_end=False)


class StreamHandler:
    """Answers `GET /events/stream`, and counts who follows."""

    def __init__(
        self,
        store: Store,
        poll: SharedPoll,
        sender: Sender,
        *,
        commits: CommitNotifier,
        followers: Budget,
        heartbeat: float,
    ) -> None:
        self._store = store
        self._poll = poll
        self._sender = sender
        self._commits = commits
        self._heartbeat = heartbeat
        self.followers = followers
        self._watching: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def stop(self, _: web.Application) -> None:
        """End all streams: they would never end by themselves."""
        self._is_stopping = True
        self._sender.hurry(_LAST_READ)
        self._commits.wake()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Events from now on, or after the one that the client has seen last."""
        wanted = parse_stream(request)
        check_query(wanted, access_of(request))
        if self._is_stopping:
            raise Unavailable("The service is stopping. Try again.")
        with self._following(request):
            after = _start(wanted.after, await self._poll.span())
            answer = web.StreamResponse(headers=_HEADERS)
            if request.method != "HEAD":
                await self._serve(request, answer, msgspec.structs.replace(wanted, after=after))
        return answer

    @contextmanager
    def _following(self, request: web.Request) -> Iterator[None]:
        """Count who follows, and watch the store as long as anybody does. Raises QueueFull."""
        with self.followers.reserve(self._sender.clients.of(request)) as place:
            place.take(1)
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch(), name="watch the store")
            try:
                yield
            finally:
                if self.followers.held == 1:
                    self._watching.cancel()
                    self._watching = None

    async def _watch(self) -> None:
        """Tell those who follow whenever events were stored, by whatever process."""
        newest = 0
        while True:
            try:
                newest = await self._store.changed(newest)
            except Unavailable:
                await asyncio.sleep(_PATIENCE)
            else:
                self._commits.announce()
                await asyncio.sleep(_PACE)

    async def _serve(self, request: web.Request, answer: web.StreamResponse, wanted: Query) -> None:
        try:
            async with self._sender.stream(request, answer) as writer:
                try:
                    await self._follow(request, writer, wanted)
                except TimeoutError:
                    why = f"It was not read for {self._sender.seconds:g} s (answer_timeout)."
                    log.info("a follower at %s is cut off: %s", request.remote, why)
                    await writer.write_last(_cut_off(why))
                except (Gone, InvalidToken) as error:
                    log.info("a follower at %s is cut off: %s", request.remote, error)
                    await writer.write(_cut_off(str(error)))
        except (TimeoutError, ConnectionError):
            log.debug("a follower at %s has left", request.remote)

    async def _follow(self, request: web.Request, writer: BodyWriter, wanted: Query) -> None:
        """Send what comes, and a sign of life where nothing does, until the service stops."""
        clock = asyncio.get_running_loop()
        access = access_of(request)
        told = position = wanted.after or 0
        await writer.write(b"retry: %d\nid: %d\n\n" % (_RETRY, position))
        silent_since = clock.time()
        while not self._is_stopping:
            access.check_current()
            seen = self._commits.number
            found = await self._next(request, msgspec.structs.replace(wanted, after=position))
            position, is_end = found.position, found.is_end
            if found.messages:  # there is room for them: nothing is awaited in between
                async with asyncio.timeout(self._sender.seconds):  # for all of it: it is held
                    await writer.write(*found.messages)
                told, silent_since = found.last, clock.time()
            del found  # what was sent need not stay while nothing comes
            if clock.time() - silent_since >= self._heartbeat:
                await writer.write(_sign_of_life(told, position))
                told, silent_since = position, clock.time()
            if is_end:
                await self._pause(writer, seen, silent_since + self._heartbeat, access)
        await writer.write(_STOPPING)

    async def _next(self, request: web.Request, wanted: Query) -> PollResult:
        """What is new; nothing while the store cannot be read or too much waits to be sent."""
        try:
            self._sender.check_room(request)
            found = await self._poll.poll(wanted, access_of(request))
            # Others, who have waited for the same, may have been quicker.
            self._sender.check_room(request, sum(map(len, found.messages)))
        except Unavailable as error:
            pause = _CROWDED if isinstance(error, QueueFull) else _PATIENCE
            await self._commits.wait(self._commits.number, pause)
            return PollResult((), 0, wanted.after or 0, is_end=False)
        return found

    async def _pause(self, writer: BodyWriter, seen: int, until: float, access: Access) -> None:
        """Wait for something newer than `seen`, and see to it that there still is a client."""
        clock = asyncio.get_running_loop()
        while self._commits.number == seen and clock.time() < until:
            access.check_current()
            if writer.is_gone:
                raise ConnectionResetError
            await self._commits.wait(seen, min(_PATIENCE, until - clock.time()))


def _start(after: int | None, span: Span) -> int:
    """The seq after which a stream begins. Raises Gone or Unparsable."""
    if after is None:
        return span.newest
    if after > span.newest:
        raise Unparsable(
            f"Nothing is stored as {after} yet, to go on after it; the newest is {span.newest}."
        )
    _check_kept(after, span)
    return after


def _check_kept(after: int, span: Span) -> None:
    """Raise Gone if an event that comes after this one may have been removed."""
    if after + 1 < span.oldest:
        raise Gone(
            f"Events after {after} are kept no more; the oldest one kept is {span.oldest}. "
            f"Go on with after={span.oldest - 1}, which leaves out those in between."
        )


def _sign_of_life(told: int, position: int) -> bytes:
    """A comment; where events were passed over, also from where a client should go on."""
    return b": still here\n\n" if told == position else b": still here\nid: %d\n\n" % position


def _cut_off(why: str) -> bytes:
    return f"event: cut-off\ndata: {why}\n\n".encode()


def _joined(messages: Iterable[bytes]) -> Iterator[bytes]:
    """The messages in pieces that are worth sending, none of them cut."""
    piece = bytearray()
    for message in messages:
        piece += message
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _as_message(event: StoredEvent) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (event.seq, render_line(event))
