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
        self._is_due = False
        self._news = asyncio.Event()

    def announce(self) -> None:
        """Something was committed."""
        if self._is_due:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._last >= self._pace:
            self.wake()
        else:
            self._is_due = True
            loop.call_at(self._last + self._pace, self.wake)

    def wake(self) -> None:
        """Wake everybody now."""
        self.number += 1
        self._is_due = False
        self._last = asyncio.get_running_loop().time()
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, seen: int, seconds: float) -> None:
        """Return once there is something newer than `seen`, or after so many seconds."""
        if self.number != seen:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
