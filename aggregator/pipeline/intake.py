"""Left of the bar, in the request: stages, the queue, and the wait for what becomes of it."""

import itertools
import os

from aggregator.core.budget import Reservation
from aggregator.errors import QueueFull, StageFault, StoreError, Unavailable
from aggregator.event import Pending, Submission
from aggregator.outcome import Fault, Filtered, Invalid
from aggregator.pipeline.pending import PendingSubmissions
from aggregator.pipeline.runner import StageRunner
from aggregator.pipeline.worker import Worker
from aggregator.queue import Queue

_PROCESS = os.urandom(10).hex()
_numbers = itertools.count()


def new_submission_id() -> str:
    """A unique id of 32 hexadecimal digits: 20 random ones of this process, then a counter."""
    return f"{_PROCESS}{next(_numbers):012x}"


_LEFT_OF_THE_BAR = {Pending, Invalid, Filtered}
"""What a verdict may be there: only the transaction tells what is stored."""


class Intake:
    """Takes submissions, runs the stages left of the bar, and hands over to the worker."""

    def __init__(
        self,
        runner: StageRunner,
        queue: Queue,
        pending: PendingSubmissions,
        worker: Worker,
        *,
        is_read_only: bool = False,
    ) -> None:
        self.runner = runner
        self.queue = queue
        self.pending = pending
        self.worker = worker
        self.is_read_only = is_read_only
        self.is_open = True
        """False once the service is stopping."""

    async def take(self, submission: Submission, reservation: Reservation) -> Submission:
        """The submission with every event settled, and stored where it says so.

        With `respond_async` it comes back as soon as it is queued. Raises Unavailable or
        StageFault; then nothing is known to be stored.
        """
        self.check_ready()
        open_events = [event for event in submission.events if type(event.verdict) is Pending]
        left = await self.runner.run(open_events)
        for event in left:
            if event.malformed:
                event.settle(Invalid((Fault("", event.malformed),)))
        if not _LEFT_OF_THE_BAR.issuperset([type(event.verdict) for event in open_events]):
            fault = StageFault(
                f"{self.runner.names}: nothing can be stored left of the bar; an outcome there is "
                "Invalid or Filtered"
            )
            self.runner.report(fault)
            raise fault
        return await self._hand_over(submission, reservation)

    @property
    def is_ready(self) -> bool:
        """Whether it can store just now; where it only reads, whether it does."""
        if self.is_read_only:
            return self.is_open
        try:
            self.check_storing()
        except Unavailable:
            return False
        return True

    def check_storing(self) -> None:
        """Raise Unavailable if nothing can be stored just now, or the batch under way hangs."""
        self.check_ready()
        if self.worker.hangs:
            raise StoreError("The batch under way takes too long: the disk may hang.")

    def check_ready(self) -> None:
        """Raise Unavailable if nothing can be stored just now."""
        if not self.is_open:
            raise QueueFull("The service is stopping. Try again.")
        if self.is_read_only:
            raise Unavailable("The service only reads (read_only): it takes and changes nothing.")
        if self.worker.trouble:
            raise StoreError(f"The store is not ready: {self.worker.trouble}")

    async def _hand_over(self, submission: Submission, reservation: Reservation) -> Submission:
        self.check_ready()
        answer = self.pending.add(submission, reservation)
        try:
            await self.queue.put(submission)
        except BaseException:
            self.pending.remove(submission)
            raise
        try:
            return submission if submission.respond_async else await answer
        finally:
            del answer  # what it raises refers to this frame, and so to the whole request
