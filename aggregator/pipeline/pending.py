"""The submissions in flight: who waits for which, and who is told that something was committed."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from aggregator.core.budget import Reservation
from aggregator.errors import AggregatorError
from aggregator.event import Submission
from aggregator.store import Counters


class Snapshot(msgspec.Struct, frozen=True):
    """Counters as of the last commit, and the events accepted and not committed, of one moment."""

    counters: Counters
    queued: int


class PendingSubmissions:
    """Every submission that was accepted and is not settled yet.

    The counters change in the same step in which the queued events do, so that their sum is
    true at every moment.
    """

    def __init__(self) -> None:
        self.counters = Counters()
        self.commits = CommitNotifier()
        self._queued: dict[str, tuple[int, Reservation]] = {}
        self._answers: dict[str, asyncio.Future[Submission]] = {}

    def add(self, submission: Submission, reservation: Reservation) -> asyncio.Future[Submission]:
        """Accept a submission; the future gives it back with every event settled, or raises.

        Its share of the budget is kept until it is settled, even if nobody waits for it any more.
        Nobody ever does for a detached one, and its future stays open.
        """
        answer: asyncio.Future[Submission] = asyncio.get_running_loop().create_future()
        self._queued[submission.id] = len(submission.events), reservation
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
        self.commits.announce()

    def fail(self, submissions: Iterable[Submission], error: AggregatorError) -> None:
        """The submissions were not committed, or their fate is unknown."""
        for submission in submissions:
            self._release(submission)
            self._refuse(submission.id, error)

    def fail_waiting(self, error: AggregatorError) -> None:
        """Answer everybody who waits; what is queued is still on its way and stays counted."""
        for waiting in list(self._answers):
            self._refuse(waiting, error)

    @property
    def answered_early(self) -> dict[str, int]:
        """How many events each submission has that was answered and is not settled yet."""
        return {
            submission: events
            for submission, (events, _) in list(self._queued.items())
            if submission not in self._answers
        }

    def snapshot(self) -> Snapshot:
        """The numbers of this moment."""
        return Snapshot(self.counters, sum(events for events, _ in self._queued.values()))

    def _release(self, submission: Submission) -> None:
        _, reservation = self._queued.pop(submission.id, (0, None))
        if reservation:
            reservation.release()

    def _refuse(self, submission: str, error: AggregatorError) -> None:
        answer = self._answers.pop(submission, None)
        if answer and not answer.done():
            answer.set_exception(error)


_PACE = 0.05  # seconds


class CommitNotifier:
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
