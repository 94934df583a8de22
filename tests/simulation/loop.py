"""An event loop without a machine: virtual time, threads in line, and who goes on drawn by lot."""

import asyncio
import heapq
from collections.abc import Callable
from random import Random
from typing import Any

STEP = 0.00001  # seconds that a callback takes


class SeededLoop(asyncio.BaseEventLoop):
    """Of what is ready any callback may be next. Time passes where nothing is ready."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random, self._now = random, 0.0

    def time(self) -> float:
        return self._now

    def run_in_executor(self, _: Any, call: Callable[..., Any], *args: Any) -> Any:
        async def called() -> Any:
            return call(*args)

        return self.create_task(called())

    def _run_once(self) -> None:
        """Run one callback; in asyncio this also waits for files and sockets."""
        timers, now = self._scheduled, self._now + STEP
        while timers and (timers[0]._cancelled or timers[0]._when <= now or not self._ready):
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                now = max(now, timer._when)
                self._ready.append(timer)
        self._now = now
        if not self._ready:
            raise AssertionError("everybody waits, and nobody will ever go on")
        self._ready.rotate(self._random.randrange(len(self._ready)))
        handle = self._ready.popleft()
        if not handle._cancelled:
            handle._run()
