"""A publisher that keeps to a schedule: `python -m loadgen.bench.publisher PLAN`, a process apart.

A request that is due while every connection waits for an answer is sent as soon as one is free, and
its latency is counted from when it was due: a slow server cannot slow down the clock.
"""

import asyncio
import gc
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from loadgen.bench.body import read_bodies
from loadgen.bench.load import REPORT, Sent
from loadgen.latency import Latency

Answered = Callable[["Connection", int, float], None]
"""The connection, the status, and the moment when the request was due."""


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, on_answer: Answered, on_loss: Callable[[], None]) -> None:
        self._on_answer, self._on_loss = on_answer, on_loss
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and is_whole(head, body):
            self._received = b""
            self._on_answer(self, int(head[9:12]), self._due)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's name
        self._on_loss()


def is_whole(head: bytes, body: bytes) -> bool:
    """Whether an answer has arrived to its end; chunks have no trailers here."""
    head = head.lower()
    _, has_length, rest = head.partition(b"\r\ncontent-length:")
    if has_length:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    return b"\r\ntransfer-encoding: chunked" in head and body.endswith(b"0\r\n\r\n")


class Plan(msgspec.Struct):
    rate: float
    """Requests a second; 0 is as fast as the answers come."""
    port: int
    head: str
    bodies: str
    connections: int
    seconds: float


class Publisher:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._head = plan.head.encode()
        self._bodies: Iterator[bytes] = read_bodies(Path(plan.bodies))
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._answers, self._late = Latency(), Latency()
        self._sent = self._refused = self._lost = 0
        self._under_way = 0
        self._ended = asyncio.Event()
        self._is_over = False

    async def run(self) -> Sent:
        loop = asyncio.get_running_loop()
        for _ in range(self._plan.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self.answered, self.lose), "127.0.0.1", self._plan.port
            )
            self._free.append(connection)
        gc.disable()
        began = time.perf_counter()
        await (self._on_schedule(began) if self._plan.rate else self._at_once(began))
        self._is_over = True
        if self._under_way:
            await self._ended.wait()
        seconds = time.perf_counter() - began
        report = Sent(self._sent, seconds, self._refused, self._lost)
        if self._plan.rate:
            report.latency = self._answers.milliseconds()
            report.late = self._late.milliseconds()
        return report

    async def _on_schedule(self, began: float) -> None:
        total = int(self._plan.seconds * self._plan.rate)
        for number in range(total):
            due = began + number / self._plan.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            elif number % 16 == 0:
                await asyncio.sleep(0)
            self._late.record(time.perf_counter() - due)
            self._due.append(due)
            if not self._feed():
                return
        while self._due and not self._lost:
            await asyncio.sleep(0.01)

    async def _at_once(self, began: float) -> None:
        self._due.extend([began] * self._plan.connections)
        while self._feed() and time.perf_counter() - began < self._plan.seconds:
            await asyncio.sleep(0.001)

    def _feed(self) -> bool:
        """Sends what is due on what is free; False when there is nothing left to send."""
        while self._due and self._free:
            body = next(self._bodies, None)
            if body is None:
                self._is_over = True
                self._due.clear()
                return False
            due, connection = self._due.popleft(), self._free.popleft()
            self._sent += 1
            self._under_way += 1
            connection.send(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body), due)
        return not self._is_over

    def answered(self, connection: Connection, status: int, due: float) -> None:
        now = time.perf_counter()
        self._answers.record(now - due)
        self._refused += not 200 <= status < 300
        self._under_way -= 1
        self._free.append(connection)
        if not self._plan.rate and not self._is_over:
            self._due.append(now)
        self._feed()
        if self._is_over and not self._under_way:
            self._ended.set()

    def lose(self) -> None:
        if not self._ended.is_set() and self._under_way:
            self._lost += 1
            self._is_over = True
            self._ended.set()


if __name__ == "__main__":
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    sys.stdout.write(REPORT + msgspec.json.encode(asyncio.run(Publisher(plan).run())).decode())
