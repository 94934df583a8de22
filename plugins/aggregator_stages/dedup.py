"""Lets an event through once: what came before under the same key is a duplicate or a conflict."""

import logging
from collections.abc import Sequence

from aggregator.content import Value, is_damaged
from aggregator.event import Event
from aggregator.outcome import Conflict, Duplicate, Outcome
from aggregator.stage import BatchStage
from aggregator.store import Content, Holder, Sighting
from aggregator.transaction import Transaction

log = logging.getLogger(__name__)

Again = list[tuple[Event, Holder]]
Same = set[tuple[int, bytes]]  # seqs, and digests of contents that are the same as theirs


class Dedup(BatchStage):
    """Claims the keys of a batch. The first event of a new key goes on; its twins wait for it.

    They wait because a later stage may yet keep the first one out, and then they are duplicates
    of nothing: those with the same content share its outcome, the next one goes on.
    """

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        """Return the events whose keys are new; settle those whose keys are held."""
        keys = list({event.key: None for event in events})
        holders = dict(zip(keys, await tx.claim(keys), strict=True))
        going: dict[bytes, Event] = {}
        again: Again = []
        for event in events:
            if holder := holders[event.key]:
                again.append((event, holder))
            elif first := going.get(event.key):
                event.wait(first)
            elif outcome := _of_copy(event):
                event.settle(outcome)
            else:
                going[event.key] = event
        if again:
            await _settle(again, tx)
        return list(going.values())


def _of_copy(event: Event) -> Outcome | None:
    """What became of the event of the same content that this one, or who it waited for, awaited."""
    other = event.awaited
    while other:
        if other.outcome and (other.key, other.digest) == (event.key, event.digest):
            return other.outcome
        other = other.awaited
    return None


async def _settle(again: Again, tx: Transaction) -> None:
    same = await _compared([pair for pair in again if pair[0].digest != pair[1].digest], tx)
    sightings = []
    for event, holder in again:
        is_duplicate = event.digest == holder.digest or (holder.seq, event.digest) in same
        outcome = Duplicate if is_duplicate else Conflict
        event.settle(outcome(holder.seq, holder.received_at))
        sightings.append(Sighting(holder.seq, event.source, event.received_at, not is_duplicate))
    await tx.record(sightings)


async def _compared(differing: Again, tx: Transaction) -> Same:
    """Of contents with unequal digests, those that are the same all the same.

    Off the event loop, and no more of the stored contents at a time than the store gives.
    """
    rivals: dict[int, dict[bytes, Event]] = {}
    digests: dict[int, bytes] = {}
    for event, holder in differing:
        rivals.setdefault(holder.seq, {})[event.digest] = event
        digests[holder.seq] = holder.digest
    seqs = list(rivals)
    same: Same = set()
    while seqs:
        contents = await tx.contents(seqs)
        slice_, seqs = seqs[: len(contents)], seqs[len(contents) :]
        for seq, content in zip(slice_, contents, strict=True):
            if is_damaged(content.source, content.payload, digests[seq]):
                log.error("the stored event %d is damaged: nothing is the same as it", seq)
                continue
            found = await tx.aside(_same_as, content, list(rivals[seq].values()))
            same.update((seq, digest) for digest in found)
    return same


def _same_as(content: Content, rivals: Sequence[Event]) -> list[bytes]:
    """The digests of those rivals that have the same content."""
    comparable = [event for event in rivals if event.source == content.source]
    if content.payload is None or not comparable:
        return []
    stored = Value(content.payload)
    return [event.digest for event in comparable if stored.is_same(Value(event.payload))]
