"""Sends a plan as an at-least-once publisher does: a batch without an answer is sent again."""

import asyncio
import time
from collections.abc import Callable, Iterator

from aggregator.client import Client, PublishAnswer, Unavailable, UnexpectedAnswer
from loadgen.plan import Batch, Plan, encode
from loadgen.retries import Retries
from loadgen.tally import Tally


class Publisher:
    def __init__(
        self,
        client: Client,
        retries: Retries,
        tally: Tally,
        connections: int,
        on_sent: Callable[[int], None],
    ) -> None:
        self._client = client
        self._retries = retries
        self._tally = tally
        self._connections = connections
        self._on_sent = on_sent

    async def publish(self, plan: Plan) -> None:
        start = time.monotonic()
        waiting = iter(plan.batches)
        try:
            async with asyncio.TaskGroup() as connections:
                for _ in range(self._connections):
                    connections.create_task(self._send_all(waiting))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._tally.seconds = time.monotonic() - start

    async def _send_all(self, waiting: Iterator[Batch]) -> None:
        """One connection: it takes the next batch from those that all connections share."""
        for batch in waiting:
            await self._send(batch)
            self._on_sent(len(batch))

    async def _send(self, batch: Batch) -> None:
        body = encode(batch)
        try:
            answer = await self._retries(lambda: self._try(batch, body))
        except UnexpectedAnswer as error:
            self._tally.requests[str(error.status)] += 1
            self._tally.faults[str(error)] += 1
        else:
            self._tally.requests[str(answer.http_status)] += 1
            self._tally.batch_answered(batch, answer)

    async def _try(self, batch: Batch, body: bytes) -> PublishAnswer:
        start = time.perf_counter()
        try:
            answer = await self._client.publish(body)
        except Unavailable as error:
            self._tally.try_failed(batch, error.reason)
            raise
        except UnexpectedAnswer:
            self._tally.latency.record(time.perf_counter() - start)
            raise
        self._tally.latency.record(time.perf_counter() - start)
        return answer
