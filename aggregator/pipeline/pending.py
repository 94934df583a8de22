"""The submissions in flight: who waits for which, and the numbers that go with it."""

import asyncio
import time
from collections.abc import Iterable

import msgspec

from aggregator.core.budget import Budget, Reservation
from aggregator.errors import AggregatorError
from aggregator.event import Submission
from aggregator.store import Counters, Store

_NOBODY: tuple[int, Reservation | None, float] = 0, None, 0.0


class Snapshot(msgspec.Struct, frozen=True):
    """Counters as of the last commit, and how many events were in flight at the same time."""

    counters: Counters
    queued: int


class PendingSubmissions:
    """Every submission that was accepted and is not settled yet.

    The counters change in the same step in which the queued events do, so that their sum is
    true at every moment.
    """

    def __init__(self, events: Budget) -> None:
        self.counters = Counters()
        self.events = events
        """Of which each client has a share; a submission without events counts as one."""
        self._queued: dict[str, tuple[int, Reservation, float]] = {}
        self._answers: dict[str, asyncio.Future[Submission]] = {}

    def add(self, submission: Submission, reservation: Reservation) -> asyncio.Future[Submission]:
        """Accept a submission; the future gives it back with every event settled, or raises.

        Its reservation is kept until it is settled, even if nobody waits for it any more. Nobody
        waits for one that is answered early, and its future stays open. Raises QueueFull.
        """
        events = len(submission.events)
        self.events.check_room(reservation.client, events or 1)
        answer: asyncio.Future[Submission] = asyncio.get_running_loop().create_future()
        self.events.add(reservation.client, events or 1)
        self._queued[submission.id] = events, reservation, time.monotonic()
        if not submission.respond_async:
            self._answers[submission.id] = answer
        reservation.is_kept = True
        return answer

    def remove(self, submission: Submission) -> None:
        """Forget a submission that the queue did not take."""
        self._release(submission)
        self._answers.pop(submission.id, None)

    def settle(self, stored: Iterable[Submission], counters: Counters) -> None:
        """The submissions were committed, and the counters with them."""
        self.counters = counters
        for submission in stored:
            self._release(submission)
            answer = self._answers.pop(submission.id, None)
            if answer and not answer.done():
                answer.set_result(submission)

    def fail(self, submissions: Iterable[Submission], error: AggregatorError) -> None:
        """The submissions were not committed, or their fate is unknown."""
        for submission in submissions:
            self._release(submission)
            self._refuse(submission.id, error)

    def fail_waiting(self, error: AggregatorError) -> None:
        """Answer everybody who waits; what is queued is still on its way and stays counted."""
        for waiting in list(self._answers):
            self._refuse(waiting, error)

    def client(self, submission: Submission) -> str:
        """Whose it is; nobody's if it was not accepted here."""
        _, reservation, _ = self._queued.get(submission.id, _NOBODY)
        return reservation.client if reservation else ""

    def waited(self, submission: Submission) -> float:
        """Seconds since it was accepted; 0 if that was not here."""
        _, reservation, accepted = self._queued.get(submission.id, _NOBODY)
        return time.monotonic() - accepted if reservation else 0.0

    @property
    def longest_wait(self) -> float:
        """Seconds since the oldest of them was accepted; 0 if there is none."""
        accepted = next((accepted for _, _, accepted in self._queued.values()), None)
        return 0.0 if accepted is None else time.monotonic() - accepted

    @property
    def answered_early(self) -> dict[str, int]:
        """How many events each submission has that was answered and is not settled yet."""
        return {
            submission: events
            for submission, (events, _, _) in list(self._queued.items())
            if submission not in self._answers
        }

    def snapshot(self) -> Snapshot:
        """The numbers as they are now."""
        return Snapshot(self.counters, sum(events for events, _, _ in self._queued.values()))

    def _release(self, submission: Submission) -> None:
        events, reservation, _ = self._queued.pop(submission.id, _NOBODY)
        if reservation:
            self.events.add(reservation.client, -(events or 1))
            reservation.release()

    def _refuse(self, submission: str, error: AggregatorError) -> None:
        answer = self._answers.pop(submission, None)
        if answer and not answer.done():
            answer.set_exception(error)


_FRESH = 1.0  # seconds for which counters that were read are shown


class Statistics:
    """The numbers as they are now: what was committed, and what is in flight here.

    In one process they are those of its own last commit, so that their sum is true at every moment.
    Where other processes commit too, the store is asked, and a batch that is being committed may be
    counted twice for a moment.
    """

    def __init__(self, store: Store, pending: PendingSubmissions) -> None:
        self._store = store
        self._pending = pending
        self._due = float("-inf")

    async def snapshot(self) -> Snapshot:
        """The numbers. Raises StoreError where the store has to be asked and fails."""
        now = asyncio.get_running_loop().time()
        if self._store.is_shared and now >= self._due:
            self._due = now + _FRESH
            read = await self._store.counters()
            if read.received >= self._pending.counters.received:  # we may have committed meanwhile
                self._pending.counters = read
        return self._pending.snapshot()
