"""What the service gives back of the events that were sent: the service's half of the books."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from aggregator.client import StoredEvent
from loadgen.plan import Event, Key


class Readback:
    """Compares each event read with the one sent; passes over those of other publishers."""

    def __init__(self, sent: Iterable[Event]) -> None:
        self._sent = {event.key: event for event in sent}
        self.seqs: dict[Key, int] = {}
        self.repeated: list[Key] = []
        self.changed: list[Key] = []

    @property
    def missing(self) -> list[Key]:
        return [key for key in self._sent if key not in self.seqs]

    def add(self, events: Iterable[StoredEvent]) -> int:
        """How many of those sent these are."""
        ours = [event for event in events if (event.topic, event.event_id) in self._sent]
        for event in ours:
            self._compare(self._sent[event.topic, event.event_id], event)
        return len(ours)

    def _compare(self, sent: Event, stored: StoredEvent) -> None:
        if sent.key in self.seqs:
            self.repeated.append(sent.key)
        self.seqs[sent.key] = stored.seq
        if not is_same(sent, stored):
            self.changed.append(sent.key)


def is_same(sent: Event, stored: StoredEvent) -> bool:
    return (sent.source, sent.timestamp) == (stored.source, stored.timestamp) and (
        canonical(_encode(sent.payload)) == canonical(stored.payload)
    )


def canonical(payload: bytes | msgspec.Raw) -> bytes:
    """One text for one value. As text, because Python holds True for equal to 1."""
    return _encode(_decode(payload))


def number(digits: str) -> Decimal | int:
    """Exact, which a float is not; and the same for 2.50 and 2.5, for 2.00 and 2."""
    exact = Decimal(digits)
    return int(exact) if exact == exact.to_integral_value() else exact.normalize()


_decode = msgspec.json.Decoder(float_hook=number).decode
_encode = msgspec.json.Encoder(decimal_format="number", order="sorted").encode
