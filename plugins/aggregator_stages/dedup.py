"""Lets an event through once: what came before under the same key is a duplicate or a conflict."""

from collections.abc import Sequence

from aggregator.event import Event
from aggregator.outcome import Duplicate, Outcome
from aggregator.stage import BatchStage
from aggregator.store import KeyOwner
from aggregator.transaction import Transaction

Again = list[tuple[Event, KeyOwner]]


class Dedup(BatchStage):
    """Claims the keys of a batch. The first event of a new key goes on; its twins wait for it.

    They wait because a later stage may yet keep the first one out. Then those with its content get
    its outcome, and the next one with another content goes on.
    """

    claims_keys = True

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        """Return the events whose keys are new; settle those whose keys are held."""
        keys = list({event.key: None for event in events})
        claimed = await tx.claim(keys)
        if len(keys) == len(events) and not any(claimed) and not _have_waited(events):
            return events
        owners = dict(zip(keys, claimed, strict=True))
        going: dict[bytes, Event] = {}
        again: Again = []
        for event in events:
            if owner := owners[event.key]:
                again.append((event, owner))
            elif first := going.get(event.key):
                event.wait(first)
            elif outcome := _of_copy(event):
                event.settle(outcome)
            else:
                going[event.key] = event
        if again:
            await _settle(again, tx)
        return list(going.values())


def _have_waited(events: Sequence[Event]) -> bool:
    return any(event.awaited for event in events)


def _of_copy(event: Event) -> Outcome | None:
    """The outcome of an event of the same key and content that this one has waited for, if any.

    Directly, or through others that it has waited for.
    """
    other = event.awaited
    while other:
        if other.outcome and (other.key, other.digest) == (event.key, event.digest):
            return other.outcome
        other = other.awaited
    return None


async def _settle(again: Again, tx: Transaction) -> None:
    """Here an event is declared a duplicate, or a conflict: its key is held.

    Equal digests mean equal contents; `Transaction.compare` tells of the others.
    """
    conflicts = await tx.compare(again)
    for (event, owner), conflict in zip(again, conflicts, strict=True):
        event.settle(conflict or Duplicate(owner.seq, owner.received_at))
