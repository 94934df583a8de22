"""Lets an event through once: what came before under the same key is a duplicate or a conflict."""

import asyncio
from collections.abc import Sequence

from aggregator.content import is_same
from aggregator.event import Event
from aggregator.outcome import Conflict, Duplicate
from aggregator.stage import BatchStage
from aggregator.store import Holder, Sighting
from aggregator.transaction import Transaction

_LARGE = 65_536  # bytes; comparing more of them in the loop would hold up everybody else


class Dedup(BatchStage):
    """Claims the keys of a batch. The first event of a new key goes on; its twins wait for it.

    They wait because a later stage may yet filter the first one, and then they are duplicates
    of nothing.
    """

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        """Return the events whose keys are new; settle those whose keys are held."""
        holders = await tx.claim([event.key for event in events])
        going: dict[bytes, Event] = {}
        again: list[tuple[Event, Holder]] = []
        for event, holder in zip(events, holders, strict=True):
            if holder:
                again.append((event, holder))
            elif going.setdefault(event.key, event) is not event:
                event.wait()
        if again:
            await _settle(again, tx)
        return list(going.values())


async def _settle(again: Sequence[tuple[Event, Holder]], tx: Transaction) -> None:
    differing = [holder.seq for event, holder in again if event.digest != holder.digest]
    stored = dict(zip(differing, await tx.contents(differing), strict=True)) if differing else {}
    for event, holder in again:
        is_duplicate = event.digest == holder.digest or await _is_same(event, *stored[holder.seq])
        outcome = Duplicate if is_duplicate else Conflict
        event.settle(outcome(holder.seq, holder.received_at))
    await tx.record(
        [
            Sighting(
                holder.seq, event.source, event.received_at, isinstance(event.outcome, Conflict)
            )
            for event, holder in again
        ]
    )


async def _is_same(event: Event, source: str, payload: bytes) -> bool:
    if event.source != source:
        return False
    if len(payload) + len(event.payload) < _LARGE:
        return is_same(event.payload, payload)
    return await asyncio.to_thread(is_same, event.payload, payload)
