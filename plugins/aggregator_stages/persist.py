"""Stores the events that come this far."""

from collections.abc import Sequence

from aggregator.event import Event
from aggregator.outcome import Stored
from aggregator.stage import BatchStage
from aggregator.transaction import Transaction


class Persist(BatchStage):
    """Appends events to the store; none goes on."""

    stores_events = True

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        """Settle every event as stored."""
        for event, seq in zip(events, await tx.append(events), strict=True):
            event.settle(Stored(seq))
        return []
