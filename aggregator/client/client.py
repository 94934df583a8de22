"""Calls the service over HTTP.

ClientError
├── Unavailable       no answer, or a 5xx: nobody knows what became of the call; it may be repeated
└── UnexpectedAnswer  an answer that does not keep the contract: to repeat the call is of no use
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from aggregator.client.answers import (
    Accepted,
    Dropped,
    EventPage,
    Explanation,
    Page,
    Problem,
    PublishAnswer,
    QuarantineEntry,
    QuarantinePage,
    Stats,
    StoredEvent,
    TopicPage,
    TopicStats,
)

T = TypeVar("T")
PageT = TypeVar("PageT", bound=Page)

_WITH_RESULTS = (200, 207, 409, 422)
_PAGE = "1000"  # the most that the service gives at once
_PAUSE = 0.02  # seconds between two looks at what has to settle
_JSON = {"Content-Type": "application/json"}
_STRICT = {"Prefer": "handling=strict"}
_ASYNC = {"Prefer": "respond-async"}
_NDJSON = {"Accept": "application/x-ndjson"}


class ClientError(Exception):
    """Base of all; the message names the call."""

    def __init__(self, message: str, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, if there was an answer."""
        self.body = body


class Unavailable(ClientError):
    """No answer, or one that says that the service cannot answer now."""

    def __init__(
        self,
        message: str,
        reason: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status=status, body=body)
        self.reason = reason
        """Short enough to count by: `time-out`, `lost connection`, or the status."""
        self.retry_after = retry_after
        """Seconds, if the service said so."""


class UnexpectedAnswer(ClientError):
    """An answer that the contract does not know, such as a 404 of something else on that port."""


class Retry(Protocol):
    """How a call is repeated while it raises Unavailable."""

    async def __call__(self, one_try: Callable[[], Awaitable[T]], /) -> T:
        """The result of the first try that succeeds. Raises what it makes of the last error."""


async def once(one_try: Callable[[], Awaitable[T]]) -> T:
    """Do not repeat anything."""
    return await one_try()


class Client:
    """One service. Every call raises ClientError; reading calls are repeated as `retry` says."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, *, timeout: float = 60.0, retry: Retry = once
    ) -> None:
        self.url = url
        """May be set anew: a service that was started again can listen elsewhere."""
        self._http = http
        self._retry = retry
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        # What is stored can take any time to read, as long as something comes.
        self._stream_timeout = aiohttp.ClientTimeout(total=None, sock_read=timeout)

    async def publish(self, body: bytes, *, is_strict: bool = False) -> PublishAnswer:
        """Send events, as JSON, in one try. After Unavailable nobody knows whether they are stored.

        A strict publish stores either all of its events or none.
        """
        headers = _JSON | (_STRICT if is_strict else {})
        reply = await self._call("POST", "/publish", body=body, headers=headers)
        answer = _decode("POST /publish", reply, _PUBLISH_ANSWER, _WITH_RESULTS, "results")
        answer.http_status = reply.status
        return answer

    async def publish_async(self, body: bytes) -> Accepted:
        """Have events accepted, as JSON, in one try: what becomes of them is not waited for."""
        reply = await self._call("POST", "/publish", body=body, headers=_JSON | _ASYNC)
        return _decode("POST /publish", reply, _ACCEPTED, (202,))

    async def why_not_ready(self) -> str | None:
        """What the service says when it cannot store now; None if it can."""
        reply = await self._call("GET", "/readyz")
        return None if reply.status == 200 else f"GET /readyz: {_summary(reply)}"

    async def stats(self) -> Stats:
        """The counters."""
        return await self._read("/stats", _STATS)

    async def settled_stats(self, seconds: float = 10.0) -> Stats:
        """The counters once nothing is under way, or as they are after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            stats = await self.stats()
            if not stats.queue_size_current or time.monotonic() >= deadline:
                return stats
            await asyncio.sleep(_PAUSE)

    async def topics(self) -> list[TopicStats]:
        """The counters by topic."""
        pages = self._pages("/topics", _TOPIC_PAGE, {})
        return [topic async for page in pages for topic in page.topics]

    async def explain(self, topic: str, event_id: str) -> Explanation:
        """What is known of a stored event."""
        path = f"/events/{quote(topic, safe='')}/{quote(event_id, safe='')}/explain"
        return await self._read(path, _EXPLANATION)

    async def event(self, topic: str, event_id: str, source: str) -> StoredEvent:
        """The first stored event of that name, from that source."""
        path = f"/events/{quote(topic, safe='')}/{quote(event_id, safe='')}"
        return await self._read(path, _STORED_EVENT, {"source": source})

    def event_pages(self, topic: str, **query: str) -> AsyncIterator[EventPage]:
        """The events of a topic, to the end: a page may be empty and yet not be the last.

        `field` and `equals` select further.
        """
        return self._pages("/events", _EVENT_PAGE, {"topic": topic, **query})

    async def quarantined(self, reason: str | None = None) -> list[QuarantineEntry]:
        """What is in quarantine, for one reason or for any."""
        query = {"reason": reason} if reason else {}
        pages = self._pages("/quarantine", _QUARANTINE_PAGE, query)
        return [entry async for page in pages for entry in page.quarantined]

    async def release(self, entry: int) -> PublishAnswer:
        """Receive one event of the quarantine anew, in one try."""
        path = f"/quarantine/{entry}/release"
        reply = await self._call("POST", path)
        return _decode(f"POST {path}", reply, _PUBLISH_ANSWER, _WITH_RESULTS, "results")

    async def drop_all(self, reason: str) -> None:
        """Remove what is in quarantine for that reason, for good."""
        while True:
            query = {"reason": reason, "limit": _PAGE}
            reply = await self._call("DELETE", "/quarantine", query=query)
            if not _decode("DELETE /quarantine", reply, _DROPPED).dropped:
                return

    async def events(self, after: int = 0) -> AsyncIterator[StoredEvent]:
        """Everything stored after that seq, in order, as one answer, which is not repeated."""
        async for line in self._streamed("/events", _NDJSON, {"after": str(after)}):
            yield _stored_event("/events", line)

    async def follow(self, after: int) -> AsyncGenerator[StoredEvent, None]:
        """Everything stored after that seq, and what comes, until the service ends the stream."""
        path = "/events/stream"
        async for line in self._streamed(path, {"Last-Event-ID": str(after)}, {}):
            if line.startswith(b"event:"):
                return
            if line.startswith(b"data:"):
                yield _stored_event(path, line.removeprefix(b"data:"))
            elif line and not line.startswith((b"id:", b"retry:", b":")):
                raise UnexpectedAnswer(f"GET {path}: a line that is none of a stream")

    async def _streamed(
        self, path: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        """The lines of the answer, as they come."""
        try:
            async with self._http.get(
                self.url + path,
                headers=headers,
                params=query,
                timeout=self._stream_timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise _failure(f"GET {path}", await _reply(response))
                async for line in _lines(response.content):
                    yield line
        except (aiohttp.ClientError, OSError) as error:
            raise _no_answer(f"GET {path}", error) from error

    async def _pages(
        self, path: str, decoder: "msgspec.json.Decoder[PageT]", query: Mapping[str, str]
    ) -> AsyncIterator[PageT]:
        query = {"limit": _PAGE, **query}
        while True:
            page = await self._read(path, decoder, query)
            yield page
            if page.next is None:
                return
            if page.next == query.get("after"):
                raise UnexpectedAnswer(f"GET {path}: the cursor stays at {page.next}")
            query = {**query, "after": page.next}

    async def _read(
        self, path: str, decoder: "msgspec.json.Decoder[T]", query: Mapping[str, str] | None = None
    ) -> T:
        async def one_try() -> T:
            return _decode(f"GET {path}", await self._call("GET", path, query=query), decoder)

        return await self._retry(one_try)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> "_Reply":
        """The answer, whatever its status. Raises Unavailable if there is none."""
        try:
            async with self._http.request(
                method,
                self.url + path,
                data=body,
                headers=headers,
                params=query,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return await _reply(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _no_answer(f"{method} {path}", error) from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Not as aiohttp splits them, where a line may not be longer than its buffer."""
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _stored_event(path: str, line: bytes) -> StoredEvent:
    try:
        return _STORED_EVENT.decode(line)
    except ValueError as error:
        raise UnexpectedAnswer(f"GET {path}: a line that is not an event ({error})") from error


class _Reply(NamedTuple):
    status: int
    body: bytes
    retry_after: float | None


async def _reply(response: aiohttp.ClientResponse) -> _Reply:
    waiting = retry_after_seconds(response.headers.get("Retry-After"))
    return _Reply(response.status, await response.read(), waiting)


def retry_after_seconds(header: str | None) -> float | None:
    """Retry-After may also be a date, which is as good as none to us."""
    return float(header) if header and header.isdecimal() else None


def _no_answer(call: str, error: Exception) -> Unavailable:
    if isinstance(error, TimeoutError):
        return Unavailable(f"{call}: no answer in time", "time-out")
    return Unavailable(f"{call}: {str(error) or repr(error)}", "lost connection")


def _failure(call: str, reply: _Reply, why: str = "") -> ClientError:
    message = f"{call}: {_summary(reply)}{why}"
    if reply.status < 500:
        return UnexpectedAnswer(message, status=reply.status, body=reply.body)
    return Unavailable(
        message,
        str(reply.status),
        status=reply.status,
        body=reply.body,
        retry_after=reply.retry_after,
    )


def _summary(reply: _Reply) -> str:
    try:
        problem = str(_PROBLEM.decode(reply.body))
    except ValueError:  # msgspec's own errors, and bytes that are no UTF-8
        problem = ""
    return f"answered {reply.status} {problem}".rstrip()


def _decode(
    call: str,
    reply: _Reply,
    decoder: "msgspec.json.Decoder[T]",
    statuses: tuple[int, ...] = (200,),
    what: str = "what was promised",
) -> T:
    if reply.status not in statuses:
        raise _failure(call, reply)
    try:
        return decoder.decode(reply.body)
    except ValueError as error:
        raise _failure(call, reply, f" without {what} ({error})") from error


_PUBLISH_ANSWER = msgspec.json.Decoder(PublishAnswer)
_ACCEPTED = msgspec.json.Decoder(Accepted)
_DROPPED = msgspec.json.Decoder(Dropped)
_QUARANTINE_PAGE = msgspec.json.Decoder(QuarantinePage)
_STATS = msgspec.json.Decoder(Stats)
_TOPIC_PAGE = msgspec.json.Decoder(TopicPage)
_EVENT_PAGE = msgspec.json.Decoder(EventPage)
_EXPLANATION = msgspec.json.Decoder(Explanation)
_STORED_EVENT = msgspec.json.Decoder(StoredEvent)
_PROBLEM = msgspec.json.Decoder(Problem)
