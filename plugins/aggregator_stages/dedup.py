"""Lets an event through once: what came before under the same key is a duplicate or a conflict."""

import logging
from collections.abc import Sequence

from aggregator.core.identity import PayloadKind, is_damaged
from aggregator.core.json_values import JsonValue
from aggregator.event import Event
from aggregator.outcome import Conflict, Duplicate, Outcome
from aggregator.stage import BatchStage
from aggregator.store import Content, KeyOwner
from aggregator.transaction import Transaction

log = logging.getLogger(__name__)

Again = list[tuple[Event, KeyOwner]]
_MOST_DIFFERENCES = 20  # told of one conflict
_TOLD = 5_000  # differences of one batch, after which only the first of each conflict is told

Comparisons = dict[tuple[int, bytes], Conflict | None]  # by the holder's seq and the rival's digest


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

    Equal digests mean equal contents. Unequal ones do not tell: the same JSON values may be spelled
    otherwise, so their contents are compared.
    """
    found = await _compared([pair for pair in again if pair[0].digest != pair[1].digest], tx)
    for event, owner in again:
        is_same = event.digest == owner.digest
        conflict = None if is_same else found[owner.seq, event.digest]
        event.settle(conflict or Duplicate(owner.seq, owner.received_at))


async def _compared(differing: Again, tx: Transaction) -> Comparisons:
    """For each pair of unequal digests a Conflict, or None if the contents are the same after all.

    Compared off the event loop, with no more stored contents at a time than the store gives.
    """
    rivals: dict[int, dict[bytes, Event]] = {}
    owners: dict[int, KeyOwner] = {}
    for event, owner in differing:
        rivals.setdefault(owner.seq, {})[event.digest] = event
        owners[owner.seq] = owner
    seqs = list(rivals)
    conflicts: Comparisons = {}
    told = 0
    while seqs:
        contents = await tx.contents(seqs)
        slice_, seqs = seqs[: len(contents)], seqs[len(contents) :]
        for seq, content in zip(slice_, contents, strict=True):
            room = _TOLD - told
            compared = list(rivals[seq].values())
            found = await tx.aside(_against, owners[seq], content, compared, room)
            told += sum(len(conflict.differences) for conflict in found.values() if conflict)
            conflicts.update(found)
    return conflicts


def _against(owner: KeyOwner, stored: Content, rivals: Sequence[Event], room: int) -> Comparisons:
    """Compare each rival with the stored content, and list its differences.

    Once `room` of them are listed, only the first one of each further rival is.
    """
    value = None
    if stored.is_damaged or is_damaged(
        stored.source, stored.payload, owner.digest, stored.payload_kind
    ):
        log.error("the stored event %d is damaged: nothing is the same as it", owner.seq)
    elif stored.payload is not None and stored.payload_kind is PayloadKind.JSON:
        value = JsonValue(stored.payload)
    conflicts: Comparisons = {}
    for event in rivals:
        most = _MOST_DIFFERENCES if room > 0 else 1
        conflict = _compare(owner, stored, value, event, most)
        conflicts[owner.seq, event.digest] = conflict
        room -= len(conflict.differences) if conflict else 0
    return conflicts


def _place(event: Event, stored: PayloadKind) -> str:
    """Where the payload of the event stands, or, if it has none, that of the stored one."""
    if not event.attributes:
        return "/payload"
    kind = stored if event.payload_kind is PayloadKind.NOTHING else event.payload_kind
    return "/data_base64" if kind is PayloadKind.BYTES else "/data"


def _compare(
    owner: KeyOwner, stored: Content, value: JsonValue | None, event: Event, most: int
) -> Conflict | None:
    payload = _place(event, stored.payload_kind)
    differences = [] if event.source == stored.source else ["/source"]
    if value and event.payload_kind is PayloadKind.JSON:
        other = JsonValue(event.payload)
        if not value.is_same(other):
            differences += [payload + place for place in value.differences(other, most)]
        elif not differences:
            return None
    elif (event.payload_kind, event.payload) != (stored.payload_kind, stored.payload):
        differences.append(payload)
    is_emptied = stored.payload is None
    return Conflict(
        owner.seq,
        owner.received_at,
        event.digest,
        owner.digest,
        () if is_emptied else tuple(differences[:most]),
        is_emptied,
    )
