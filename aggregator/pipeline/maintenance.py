"""What the worker does beside batches: jobs that are due now and then, each in a transaction.

The worker runs them between batches and while it is idle, so that nobody but the pipeline begins
and commits. The one job that there is sweeps the quarantine.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aggregator.core import timestamp
from aggregator.pipeline.abilities import as_quarantine
from aggregator.store import MOST_EVICTED, QuarantineTransaction, StoreTransaction

log = logging.getLogger(__name__)

_DAY = 86_400_000_000  # microseconds
_FIRST_SWEEP = 60.0  # seconds
_SWEEP = 3600.0


@dataclass
class Job:
    """Something to do in a transaction of its own, first after `first` seconds, then each `every`.

    `run` says whether there is more to do; then it is due again at once, after the batch that
    waits meanwhile.
    """

    name: str
    run: Callable[[StoreTransaction], Awaitable[bool]]
    first: float
    every: float
    due: float = float("inf")
    """When, by the clock of the event loop."""


class Maintenance:
    """The jobs, and when each is due."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def start(self) -> None:
        """Count from now on when each job is due for the first time."""
        for job in self._jobs:
            job.due = _now() + job.first

    @property
    def pause(self) -> float | None:
        """Seconds until a job is due; None if there is none."""
        return max(0.0, min(job.due for job in self._jobs) - _now()) if self._jobs else None

    def take(self) -> Job | None:
        """The job that is due first, if one is; it is due again later, whatever becomes of it."""
        job = min(self._jobs, key=lambda job: job.due, default=None)
        if job is None or job.due > _now():
            return None
        job.due = _now() + job.every
        return job

    def resume(self, job: Job) -> None:
        """There is more to do: it is due at once."""
        job.due = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()


class QuarantineLimits:
    """How much is kept in quarantine, in bytes, and for how many days."""

    def __init__(self, most_bytes: int, days: float) -> None:
        self._most_bytes = most_bytes
        self._age = int(days * _DAY)

    @property
    def sweep(self) -> Job:
        """The job that evicts every hour, so that old entries leave even if nothing is added."""
        return Job("sweep the quarantine", self._sweep, _FIRST_SWEEP, _SWEEP)

    async def evict(self, tx: QuarantineTransaction, added: int = 0) -> int:
        """Evict, up to MOST_EVICTED entries a call, in enough calls to remove more than was added.

        Returns how many entries were removed.
        """
        before = max(0, timestamp.now() - self._age)
        calls = range(1 + added // MOST_EVICTED)
        if evicted := sum([await tx.evict(before, self._most_bytes) for _ in calls]):
            log.warning(
                "%d events have gone from quarantine: it was full (quarantine_bytes), or they "
                "were too old (quarantine_days)",
                evicted,
            )
        return evicted

    async def _sweep(self, tx: StoreTransaction) -> bool:
        return await self.evict(as_quarantine(tx)) >= MOST_EVICTED
