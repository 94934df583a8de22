"""Sends a plan as an at-least-once publisher does: a batch without an answer is sent again."""

import asyncio
import time
from collections.abc import Callable, Iterator

import msgspec

from loadgen.contract import decode_answer
from loadgen.errors import UnavailableError
from loadgen.plan import Batch, Plan, encode
from loadgen.service import Reply, Service, said
from loadgen.tally import Tally

WITH_RESULTS = (200, 207, 409, 422)


class Publisher:
    def __init__(
        self, service: Service, tally: Tally, connections: int, on_sent: Callable[[int], None]
    ) -> None:
        self._service = service
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
        reply = await self._service.patiently(lambda: self._try(batch, body))
        self._tally.requests[str(reply.status)] += 1
        if reply.status not in WITH_RESULTS:
            self._tally.faults[f"POST /publish: {said(reply)}"] += 1
            return
        try:
            answer = decode_answer(reply.body)
        except msgspec.DecodeError as error:
            self._tally.faults[f"POST /publish: {said(reply)} without results ({error})"] += 1
        else:
            self._tally.batch_answered(batch, answer)

    async def _try(self, batch: Batch, body: bytes) -> Reply:
        start = time.perf_counter()
        try:
            reply = await self._service.publish(body)
        except UnavailableError as error:
            self._tally.try_failed(batch, error.reason)
            raise
        self._tally.latency.record(time.perf_counter() - start)
        return reply
