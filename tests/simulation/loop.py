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
        self._random = random
        self._now = 0.0
        self.set_exception_handler(self._note)
        self.unhandled: list[dict[str, Any]] = []
        """What nobody was told of: an exception of a callback, or of a task that was let go."""

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def run_in_executor(self, _: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call it at some later time, and nothing else meanwhile."""
        called = self.create_future()

        def call() -> None:
            try:
                result = func(*args)
            except Exception as error:
                called.cancelled() or called.set_exception(error)
            else:
                called.cancelled() or called.set_result(result)

        self.call_soon(call)
        return called

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    def _run_once(self) -> None:
        """Run one callback; asyncio has here what waits for files and sockets."""
        while self._scheduled and (
            self._scheduled[0]._cancelled
            or not self._ready
            or self._scheduled[0]._when <= self._now
        ):
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._now = max(self._now, timer._when)
                self._ready.append(timer)
        if not self._ready:
            raise AssertionError("everybody waits, and nobody will ever go on")
        self._now += STEP
        self._ready.rotate(-self._random.randrange(len(self._ready)))
        handle = self._ready.popleft()
        if not handle._cancelled:
            handle._run()

    def _write_to_self(self) -> None:
        """Nobody sleeps."""
