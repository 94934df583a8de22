"""What happens in the request: a body becomes a submission, and waits for what becomes of it."""

import asyncio
import uuid
from collections.abc import Callable

from aggregator import timestamp
from aggregator.budget import Share
from aggregator.decode import Decoder
from aggregator.errors import QueueFull, StageFault, StoreError
from aggregator.event import Event, Submission
from aggregator.ledger import Ledger
from aggregator.outcome import Conflict, Duplicate, Fault, Invalid, Stored
from aggregator.pipeline import Line
from aggregator.queue import Queue
from aggregator.worker import Worker

_NOT_YET = (Stored, Duplicate, Conflict)
_SMALL = 65_536  # bytes; decoding more of them in the loop would hold up everybody else


class Intake:
    """Takes bodies, runs the stages left of the bar, and hands over to the worker."""

    def __init__(
        self, decoder: Decoder, line: Line, queue: Queue, ledger: Ledger, worker: Worker
    ) -> None:
        self.decoder = decoder
        self.line = line
        self.queue = queue
        self.ledger = ledger
        self.worker = worker
        self.is_open = True
        """False once the service is stopping."""

    async def take(self, body: bytes, is_ndjson: bool, share: Share) -> Submission:
        """The submission that the body was, with every event settled and stored as it says.

        Raises RequestError, Unavailable or StageFault; then nothing is known to be stored.
        """
        self.check_ready()
        decode = self.decoder.ndjson if is_ndjson else self.decoder.json
        submission = await self._decode(body, decode)
        open_events = [event for event in submission.events if event.outcome is None]
        await self.line.run(open_events)
        for event in open_events:
            if event.malformed and event.outcome is None:
                event.settle(Invalid((Fault("", event.malformed),)))
        if any(isinstance(event.outcome, _NOT_YET) for event in open_events):
            raise StageFault(f"{self.line.names}: nothing can be stored left of the bar")
        return await self._hand_over(submission, share)

    def check_ready(self) -> None:
        """Raise Unavailable if nothing can be stored just now."""
        if not self.is_open:
            raise QueueFull("The service is stopping. Try again.")
        if self.worker.trouble:
            raise StoreError(f"The store is not ready: {self.worker.trouble}")

    async def _decode(
        self, body: bytes, decode: Callable[[bytes, str, int], list[Event]]
    ) -> Submission:
        submission_id = uuid.uuid4().hex
        received_at = timestamp.now()
        if len(body) <= _SMALL:
            return Submission(submission_id, decode(body, submission_id, received_at))
        events = await asyncio.to_thread(decode, body, submission_id, received_at)
        return Submission(submission_id, events)

    async def _hand_over(self, submission: Submission, share: Share) -> Submission:
        self.check_ready()
        answer = self.ledger.enter(submission, share)
        try:
            await self.queue.put(submission)
        except BaseException:
            self.ledger.withdraw(submission)
            raise
        return await answer
