"""Whether an event has the content of the stored one that holds its key, and what differs if not.

An unequal digest does not tell: it covers the bytes as they were sent, and the same JSON values may
be spelled otherwise. So contents are compared, and what that takes is counted in bytes, stored and
sent. How many of them a batch may take stands in `transaction.py`, where a stage asks, and how many
a submission, in `pipeline/comparer.py`.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from aggregator.core.identity import PayloadKind, is_damaged
from aggregator.core.json_values import JsonValue
from aggregator.event import Event
from aggregator.outcome import Conflict
from aggregator.store import CONTENTS_BYTES, Content, KeyOwner

log = logging.getLogger(__name__)

Pair = tuple[Event, KeyOwner]
"""An event, and the one that holds its key."""
Contents = tuple[bytes, bytes, bytes]
"""What a verdict is about: a key, the digest of its owner, and that of an event that came again."""
Verdicts = dict[Contents, Conflict | None]
"""None where both contents are the same. A verdict stays true as long as the owner's digest is."""

_MOST_DIFFERENCES = 20  # told of one conflict
TOLD = 5_000
"""Differences of one batch, or of one submission, after which only the first of each conflict is
told."""
_EACH = 100  # bytes that are counted for an event beside its payload


def contents_of(event: Event, owner: KeyOwner) -> Contents:
    """By what the verdict on these two is found."""
    return event.key, owner.digest, event.digest


class Rivals(msgspec.Struct, frozen=True):
    """Events that came under a held key, each with another digest than its owner and the others."""

    owner: KeyOwner
    events: list[Event]

    @property
    def pairs(self) -> Iterator[Pair]:
        """Each of them with the owner."""
        return ((event, self.owner) for event in self.events)

    @property
    def sent(self) -> int:
        """The bytes of theirs that are compared."""
        return sum(_size(event) for event in self.events)

    def size(self, stored: Content) -> int:
        """All bytes that are compared."""
        return len(stored.payload or b"") + self.sent


def rivals(pairs: Iterable[Pair]) -> Iterator[Rivals]:
    """The events by owner; those of one owner in parts of about CONTENTS_BYTES that were sent."""
    by_owner: dict[tuple[bytes, int], tuple[KeyOwner, dict[bytes, Event]]] = {}
    for event, owner in pairs:
        _, events = by_owner.setdefault((event.key, owner.seq), (owner, {}))
        events[event.digest] = event
    for owner, events in by_owner.values():
        some: list[Event] = []
        size = 0
        for event in events.values():
            some.append(event)
            size += _size(event)
            if size >= CONTENTS_BYTES:
                yield Rivals(owner, some)
                some, size = [], 0
        if some:
            yield Rivals(owner, some)


def compare(together: Sequence[tuple[Rivals, Content]], room: int) -> Verdicts:
    """Compare each of the rivals with the content that is stored under their key. Slow.

    Once `room` differences are listed, only the first one of each further conflict is.
    """
    verdicts: Verdicts = {}
    for some, stored in together:
        owner = some.owner
        value = _value(owner, stored)
        for event in some.events:
            most = _MOST_DIFFERENCES if room > 0 else 1
            conflict = _compare(owner, stored, value, event, most)
            verdicts[contents_of(event, owner)] = conflict
            room -= len(conflict.differences) if conflict else 0
    return verdicts


def told(verdicts: Verdicts) -> int:
    """How many differences they list."""
    return sum(len(conflict.differences) for conflict in verdicts.values() if conflict)


def _size(event: Event) -> int:
    return len(event.payload) + _EACH


def _value(owner: KeyOwner, stored: Content) -> JsonValue | None:
    if stored.is_damaged or is_damaged(
        stored.source, stored.payload, owner.digest, stored.payload_kind
    ):
        log.error("the stored event %d is damaged: nothing is the same as it", owner.seq)
    elif stored.payload is not None and stored.payload_kind is PayloadKind.JSON:
        return JsonValue(stored.payload)
    return None


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
