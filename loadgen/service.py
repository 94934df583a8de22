"""The service as a publisher sees it: its calls, and patience when one of them fails."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, TypeVar

import aiohttp
import msgspec
import stamina

from loadgen.contract import Page, Stats, decode_page, decode_problem, decode_stats
from loadgen.errors import ContractError, GaveUpError, NeverReadyError, UnavailableError

T = TypeVar("T")

PAGE = 1000
MOST_FAULTS = 5
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 10.0
JSON = {"Content-Type": "application/json"}


class Reply(NamedTuple):
    status: int
    body: bytes


class Service:
    """``publish`` is a single try; the reading calls are repeated until they succeed."""

    def __init__(self, http: aiohttp.ClientSession, url: str, give_up: float) -> None:
        self._http = http
        self._url = url
        self._give_up = give_up
        self._retry = stamina.AsyncRetryingCaller(
            attempts=None, timeout=give_up, wait_initial=0.05, wait_max=2.0, wait_jitter=0.1
        )

    async def wait_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while reason := await self.why_not_ready():
            if time.monotonic() >= deadline:
                raise NeverReadyError(
                    f"{self._url} was not ready within {seconds:g} s ({reason}): "
                    "start the service, or say where it is with --url"
                )
            await asyncio.sleep(0.2)

    async def why_not_ready(self) -> str | None:
        try:
            reply = await self._request("GET", "/readyz")
        except UnavailableError as error:
            return str(error)
        return None if reply.status == 200 else f"GET /readyz: answered {reply.status}"

    async def publish(self, body: bytes) -> Reply:
        return await self._request("POST", "/publish", body=body)

    async def settled_stats(self, patience: float = 5.0) -> Stats:
        """Asks until nothing is under way, for what is would be counted on the wrong side."""
        deadline = time.monotonic() + patience
        while (stats := await self._read("/stats", decode_stats)).queue_size_current:
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(0.05)
        return stats

    async def pages(self, topic: str) -> AsyncIterator[Page]:
        """The events of a topic, to the end: a page may be empty and yet not the last."""
        query = {"topic": topic, "limit": str(PAGE)}
        while True:
            page = await self._read("/events", decode_page, query)
            yield page
            if page.next is None:
                return
            if page.next == query.get("after"):
                raise ContractError(f"GET /events: the cursor stays at {page.next}")
            query["after"] = page.next

    async def patiently(self, one_try: Callable[[], Awaitable[T]]) -> T:
        """The result of the first try that succeeds; GaveUpError when none does for too long."""
        start = time.monotonic()
        try:
            return await self._retry(Patience(), one_try)
        except UnavailableError as error:
            waited = time.monotonic() - start
            raise GaveUpError(f"gave up after {waited:.1f} s without success: {error}") from error

    async def _read(
        self, path: str, decode: Callable[[bytes], T], query: dict[str, str] | None = None
    ) -> T:
        reply = await self.patiently(lambda: self._request("GET", path, query=query))
        if reply.status != 200:
            raise ContractError(f"GET {path}: {said(reply)}")
        try:
            return decode(reply.body)
        except msgspec.DecodeError as error:
            raise ContractError(f"GET {path}: not the answer promised: {error}") from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: dict[str, str] | None = None,
    ) -> Reply:
        call = f"{method} {path}"
        try:
            async with self._http.request(
                method,
                self._url + path,
                data=body,
                params=query,
                headers=JSON if body else None,
                allow_redirects=False,
            ) as response:
                reply = Reply(response.status, await response.read())
                retry_after = response.headers.get("Retry-After")
        except TimeoutError as error:
            raise UnavailableError("time-out", f"{call}: no answer in time") from error
        except aiohttp.ClientError as error:
            raise UnavailableError("lost connection", f"{call}: {error}") from error
        if reply.status >= 500:
            raise UnavailableError(
                str(reply.status), f"{call}: {said(reply)}", seconds(retry_after)
            )
        return reply


class Patience:
    """Whether to try once more, and after how long; a fault (500) is forgiven a few times only."""

    def __init__(self) -> None:
        self._faults = 0

    def __call__(self, error: Exception) -> bool | float:
        if not isinstance(error, UnavailableError):
            return False
        self._faults += error.reason == "500"
        if self._faults >= MOST_FAULTS:
            return False
        if error.retry_after is None:
            return True
        return min(max(error.retry_after, SHORTEST_PAUSE), LONGEST_PAUSE)


def said(reply: Reply) -> str:
    return f"answered {reply.status} {decode_problem(reply.body)}".rstrip()


def seconds(retry_after: str | None) -> float | None:
    """Retry-After may also be a date, which is as good as none to us."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
