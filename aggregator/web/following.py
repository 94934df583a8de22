"""`GET /events/stream`: follows events as they are stored, as server-sent events."""

import asyncio
import logging

import msgspec
from aiohttp import web

from aggregator.errors import Gone, Unavailable, Unparsable
from aggregator.pipeline.pending import CommitNotifier
from aggregator.store import Query, Span
from aggregator.web import query
from aggregator.web.looks import Look, Looks, check_kept
from aggregator.web.sending import Outlet, Sender

log = logging.getLogger(__name__)

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # for proxies that would gather what should arrive at once
}
_RETRY = 2000  # milliseconds after which a client that was cut off should come back
_PATIENCE = 1.0  # seconds until a store that fails is asked again, or whether a client is there
_LAST_READ = 2.0  # seconds for clients to read what they are sent, once the service stops
_STOPPING = b"event: stopping\ndata: The service is stopping; come back later.\n\n"


class Following:
    """The handler, and everybody who follows."""

    def __init__(
        self, looks: Looks, sender: Sender, commits: CommitNotifier, most: int, heartbeat: float
    ) -> None:
        self._looks = looks
        self._sender = sender
        self._commits = commits
        self._most = most
        self._heartbeat = heartbeat
        self._followers = 0
        self._is_stopping = False

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [web.get("/events/stream", self.stream)]

    async def stop(self, _: web.Application) -> None:
        """Send everybody away: the streams would never end by themselves."""
        self._is_stopping = True
        self._sender.hurry(_LAST_READ)
        self._commits.wake()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Events from now on, or after the one that the client has seen last."""
        wanted = query.parse_stream(request)
        self._check_room()
        self._followers += 1
        try:
            after = _start(wanted.after, await self._looks.span())
            answer = web.StreamResponse(headers=_HEADERS)
            if request.method != "HEAD":
                await self._serve(request, answer, msgspec.structs.replace(wanted, after=after))
        finally:
            self._followers -= 1
        return answer

    def _check_room(self) -> None:
        if self._is_stopping:
            raise Unavailable("The service is stopping. Try again.")
        if self._followers >= self._most:
            raise Unavailable("Too many readers follow the stream (streams). Try again.")

    async def _serve(self, request: web.Request, answer: web.StreamResponse, wanted: Query) -> None:
        try:
            async with self._sender.stream(request, answer) as outlet:
                try:
                    await self._follow(outlet, wanted)
                except TimeoutError:
                    why = f"It was not read for {self._sender.seconds:g} s (answer_timeout)."
                    log.info("a follower at %s is cut off: %s", request.remote, why)
                    await outlet.say_last(_cut_off(why))
                except Gone as error:
                    log.info("a follower at %s is cut off: %s", request.remote, error)
                    await outlet.write(_cut_off(str(error)))
        except (TimeoutError, ConnectionError):
            log.debug("a follower at %s has left", request.remote)

    async def _follow(self, outlet: Outlet, wanted: Query) -> None:
        """Send what comes, and a sign of life where nothing does, until the service stops."""
        clock = asyncio.get_running_loop()
        told = position = wanted.after or 0
        await outlet.write(b"retry: %d\nid: %d\n\n" % (_RETRY, position))
        silent_since = clock.time()
        while not self._is_stopping:
            seen = self._commits.number
            look = await self._look(msgspec.structs.replace(wanted, after=position))
            position, is_end = look.position, look.is_end
            if look.messages:
                async with asyncio.timeout(self._sender.seconds):  # for all of it: it is held
                    await outlet.write(*look.messages)
                told, silent_since = look.last, clock.time()
            del look  # what was sent need not stay while nothing comes
            if clock.time() - silent_since >= self._heartbeat:
                await outlet.write(_sign_of_life(told, position))
                told, silent_since = position, clock.time()
            if is_end:
                await self._pause(outlet, seen, silent_since + self._heartbeat)
        await outlet.write(_STOPPING)

    async def _look(self, wanted: Query) -> Look:
        """What is new; nothing while the store cannot be read or too much waits to be sent."""
        try:
            return await self._looks.at(wanted)
        except Unavailable:
            await self._commits.wait(self._commits.number, _PATIENCE)
            return Look((), 0, wanted.after or 0, is_end=False)

    async def _pause(self, outlet: Outlet, seen: int, until: float) -> None:
        """Wait for something newer than `seen`, and see to it that there still is a client."""
        clock = asyncio.get_running_loop()
        while self._commits.number == seen and clock.time() < until:
            if outlet.is_gone:
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
    check_kept(after, span)
    return after


def _sign_of_life(told: int, position: int) -> bytes:
    """A comment; where events were passed over, also from where a client should go on."""
    return b": still here\n\n" if told == position else b": still here\nid: %d\n\n" % position


def _cut_off(why: str) -> bytes:
    return f"event: cut-off\ndata: {why}\n\n".encode()
