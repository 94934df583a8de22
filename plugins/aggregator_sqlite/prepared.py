"""Events as they are going to be written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aggregator.event import Event
from aggregator_sqlite import blocks

Ends = tuple[str, int, int, int, int]
"""A topic, the seq of its first event, when that was received, and the same of its last."""


@dataclass(frozen=True)
class Prepared:
    """Events that follow each other, for one connection to write and nobody to look into.

    Made where they are appended: so what cannot be written of an event is told to whoever did that,
    and the threads hand over few objects instead of many.
    """

    last: int  # its seq
    rows: list[tuple[blocks.Row, set[str]]]
    """Blocks, each with the topics in it."""
    topics: list[Ends]
    names: list[tuple[bytes, int]]
    """By what else than its key an event is found, and its seq."""

    @classmethod
    def of(cls, first: int, events: Sequence[Event]) -> "Prepared":
        """The events from that seq on. Raises TypeError or ValueError if one cannot be written."""
        rows = [(row, {event.topic for event in some}) for row, some in blocks.pack(first, events)]
        names = [(event.name, seq) for seq, event in enumerate(events, first) if event.name]
        topics = list(_topics(first, events))
        _check(topics, names)
        return cls(first + len(events) - 1, rows, topics, names)


def _check(topics: list[Ends], names: list[tuple[bytes, int]]) -> None:
    """Raise TypeError or ValueError unless SQLite takes them: it is asked only when they wait."""
    for topic, *numbers in topics:
        if not isinstance(topic, str) or any(not 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"events on topic {topic!r} that were received at {numbers[1::2]}")
    if any(not isinstance(name, bytes) for name, _ in names):
        raise TypeError("the name of an event should be bytes")


def _topics(first: int, events: Sequence[Event]) -> Iterator[Ends]:
    topics = [event.topic for event in events]
    places = range(len(events))
    newest = dict(zip(topics, places, strict=True))
    oldest = dict(zip(reversed(topics), reversed(places), strict=True))
    for topic, last in newest.items():
        begin = oldest[topic]
        yield (
            topic,
            first + begin,
            events[begin].received_at,
            first + last,
            events[last].received_at,
        )
