"""Tells whoever waits for it that something was committed."""

import asyncio
from contextlib import suppress

_PACE = 0.05  # seconds


class Commits:
    """Wakes those who follow, at most once in `pace` seconds however many commits there are.

    All wake at the same moment, so that they can share what they then read.
    """

    def __init__(self, pace: float = _PACE) -> None:
        self.number = 0
        """Grows with every waking; whoever waits says which one it has seen."""
        self._pace = pace
        self._last = float("-inf")
        self._rests_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()

    def announce(self) -> None:
        """Something was committed."""
        if self._timer is None:
            self._wake_in_time()

    def put_off(self, seconds: float) -> None:
        """Wake nobody for so long, whatever was said here before."""
        self._rests_until = asyncio.get_running_loop().time() + seconds
        if self._timer is not None:
            self._timer.cancel()
            self._wake_in_time()

    def wake(self) -> None:
        """Wake everybody now."""
        self.number += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = asyncio.get_running_loop().time()
        self._news.set()
        self._news = asyncio.Event()

    def _wake_in_time(self) -> None:
        loop = asyncio.get_running_loop()
        due = max(self._last + self._pace, self._rests_until)
        if loop.time() >= due:
            self.wake()
        else:
            self._timer = loop.call_at(due, self._wake_in_time)

    async def wait(self, seen: int, seconds: float) -> None:
        """Return once there is something newer than `seen`, or after so many seconds."""
        if self.number != seen:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
