"""How calls are repeated while the service is unavailable."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from aggregator.client import Unavailable
from loadgen.errors import GaveUp

T = TypeVar("T")

MOST_FAULTS = 5
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 10.0


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
    """Whether to try once more, and after how long; a fault (500) is forgiven a few times only."""

    def __init__(self) -> None:
        self._faults = 0

    def __call__(self, error: Exception) -> bool | float:
        if not isinstance(error, Unavailable):
            return False
        self._faults += error.status == 500
        if self._faults >= MOST_FAULTS:
            return False
        if error.retry_after is None:
            return True
        return min(max(error.retry_after, SHORTEST_PAUSE), LONGEST_PAUSE)
