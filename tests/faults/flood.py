"""Publishers that together are faster than the disk, and wait as long as they are told to."""

import asyncio
import itertools
import json
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from events import event
from running import Service

PATIENCE = 120.0  # seconds for one request


class Flood:
    """So many connections, each of which publishes a batch every so many seconds, or as it can."""

    def __init__(self, service: Service, publishers: int, events: int, filler: int, every: float):
        self.answers: Counter[int] = Counter()
        """How often each status was answered; 0 where the connection broke."""
        self.reasons: Counter[str] = Counter()
        """Why there was no room, in the service's words."""
        self.seqs: dict[str, int] = {}
        """Under which seq each event is stored that was answered so."""
        self._url = f"{service.url}/publish"
        self._publishers = publishers
        self._events = events
        self._payload = {"filler": "x" * filler}
        self._every = every
        self._numbers = itertools.count()
        self._over = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Flood":
        connector, timeout = TCPConnector(limit=0), ClientTimeout(PATIENCE)
        session = ClientSession(connector=connector, timeout=timeout)
        await self._stack.enter_async_context(session)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        for number in range(self._publishers):
            late = self._every * number / self._publishers
            group.create_task(self._publish(session, late))
        return self

    async def __aexit__(self, *raised: Any) -> None:
        """Have every batch answered, then end."""
        self._over.set()
        await self._stack.__aexit__(*raised)

    async def _publish(self, session: ClientSession, late: float) -> None:
        clock = asyncio.get_running_loop()
        due = clock.time() + late
        while not await self._is_over(due - clock.time()):
            names = [str(next(self._numbers)) for _ in range(self._events)]
            batch = [event(name, "flood", payload=self._payload) for name in names]
            body = json.dumps(batch).encode()
            while (pause := await self._ask(session, body, names)) is not None:
                await asyncio.sleep(pause)
            due = max(due + self._every, clock.time())

    async def _is_over(self, seconds: float) -> bool:
        """Wait until the next batch is due, or until no further ones are."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    async def _ask(self, session: ClientSession, body: bytes, names: list[str]) -> float | None:
        """Publish once; after how many seconds to try again, or None."""
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(self._url, data=body, headers=headers) as response:
                told = await response.json(content_type=None)
        except (ClientError, ConnectionError):
            self.answers[0] += 1
            return 1.0
        self.answers[response.status] += 1
        if response.status == 503:
            self.reasons[told["detail"]] += 1
            return float(response.headers["Retry-After"])
        assert response.status == 200, told
        results = told["results"]
        assert {one["status"] for one in results} <= {"stored", "duplicate"}, results
        self.seqs.update(zip(names, (one["seq"] for one in results), strict=True))
        return None

    def check_kept(self, database: Path) -> None:
        """What was answered is stored, each event once and under its seq, and nothing else is."""
        with closing(sqlite3.connect(database)) as db:
            rows = db.execute("SELECT event_id, seq FROM events").fetchall()
        assert len(dict(rows)) == len(rows), "an event is stored twice"
        assert dict(rows) == self.seqs


def memory(service: Service, name: str = "VmRSS") -> int:
    """MiB of memory that the process has, or has had at most (VmHWM)."""
    status = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(name)) // 1024
