"""An at-least-once publisher: a batch without an answer is sent again, after a pause."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import stamina

from aggregator.client import Client, PublishAnswer, Unavailable, UnexpectedAnswer
from loadgen.answers import Answers
from loadgen.workload import Batch, Plan, encode

T = TypeVar("T")

MOST_FAULTS = 5  # answers 500 to one call before it is given up
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 10.0  # seconds, whatever Retry-After says


class LoadgenError(Exception):
    """Ends a run early; the message is for the user. `ClientError` does so too."""


class GaveUp(LoadgenError):
    """Every try of a call failed, for too long."""


class Retries:
    """Repeats a call until it succeeds; raises GaveUp when it has failed for too long."""

    def __init__(self, give_up: float) -> None:
        self._retry = stamina.AsyncRetryingCaller(
            attempts=None, timeout=give_up, wait_initial=0.05, wait_max=2.0, wait_jitter=0.1
        )

    async def __call__(self, one_try: Callable[[], Awaitable[T]], /) -> T:
        """The result of the first try that succeeds."""
        start = time.monotonic()
        try:
            return await self._retry(Patience(), one_try)
        except Unavailable as error:
            waited = time.monotonic() - start
            raise GaveUp(f"gave up after {waited:.1f} s without success: {error}") from error


class Patience:
    """Decides for one call whether to try once more, and after how long.

    A full or absent service may come back; one that answers 500 has a fault, and probably keeps it.
    """

    def __init__(self) -> None:
        self._faults = 0

    def __call__(self, error: Exception) -> bool | float:
        """False to give up, True for the next pause of the backoff, or the seconds to wait."""
        if not isinstance(error, Unavailable):
            return False
        self._faults += error.status == 500
        if self._faults >= MOST_FAULTS:
            return False
        if error.retry_after is None:
            return True
        return min(max(error.retry_after, SHORTEST_PAUSE), LONGEST_PAUSE)


class Publisher:
    """Several connections that share the batches of a plan; every try is recorded."""

    def __init__(
        self,
        client: Client,
        retries: Retries,
        answers: Answers,
        connections: int,
        on_sent: Callable[[int], None],
    ) -> None:
        self._client = client
        self._retries = retries
        self._answers = answers
        self._connections = connections
        self._on_sent = on_sent

    async def publish(self, plan: Plan) -> None:
        """Send every batch until it is answered. Raises the first error that ends a connection."""
        start = time.monotonic()
        waiting = iter(plan.batches)
        try:
            async with asyncio.TaskGroup() as connections:
                for _ in range(self._connections):
                    connections.create_task(self._send_all(waiting))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._answers.seconds = time.monotonic() - start

    async def _send_all(self, waiting: Iterator[Batch]) -> None:
        """One connection: take the next batch from those that all connections share."""
        for batch in waiting:
            await self._send(batch)
            self._on_sent(len(batch))

    async def _send(self, batch: Batch) -> None:
        body = encode(batch)
        try:
            answer = await self._retries(lambda: self._try(batch, body))
        except UnexpectedAnswer as error:
            self._answers.requests[str(error.status)] += 1
            self._answers.faults[str(error)] += 1
        else:
            self._answers.requests[str(answer.http_status)] += 1
            self._answers.record(batch, answer)

    async def _try(self, batch: Batch, body: bytes) -> PublishAnswer:
        start = time.perf_counter()
        try:
            answer = await self._client.publish(body)
        except Unavailable as error:
            self._answers.record_failed_try(batch, error.reason)
            raise
        except UnexpectedAnswer:
            self._answers.latency.record(time.perf_counter() - start)
            raise
        self._answers.latency.record(time.perf_counter() - start)
        return answer
