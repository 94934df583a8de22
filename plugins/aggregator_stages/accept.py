"""The accept check: a glance that nearly every event passes, made from the schema it stands for."""

from collections.abc import Sequence

from marshmallow import Schema, validate
from msgspec import UNSET

from aggregator.event import Event
from aggregator_stages.schemas import OneLine, Timestamp

_MOST_KNOWN = 1000


class Accept:
    """Sees of most plain events that they keep the schema; of the others it says nothing.

    Topics and sources recur, so those that were accepted are known.
    """

    def __init__(self, schema: Schema) -> None:
        self._shortest, self._longest = _bounds(schema, "event_id", OneLine)
        _, self._longest_timestamp = _bounds(schema, "timestamp", Timestamp)
        self._topics: set[str] = set()
        self._sources: set[str] = set()

    def sees(self, event: Event) -> bool:
        """Whether the event keeps the schema, as far as that can be seen."""
        return (
            event.topic in self._topics
            and event.source in self._sources
            and self._shortest <= len(event.event_id) <= self._longest
            and event.event_id.isprintable()
            and event.known_timestamp_us is not None
            and event.known_timestamp_us is not UNSET  # as it is where the service decodes events
            and len(event.timestamp) <= self._longest_timestamp
            and not event.malformed
            and not event.attributes
        )

    def learn(self, event: Event) -> None:
        """Know the topic and the source of a plain event that keeps the schema."""
        for known, value in ((self._topics, event.topic), (self._sources, event.source)):
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known.add(value)


def _bounds(schema: Schema, name: str, kind: type[validate.Validator]) -> tuple[int, int]:
    """The lengths of what the member's validators accept, which are one of lengths and `kind`."""
    length, other = _validators(schema, name)
    assert isinstance(length, validate.Length)
    assert type(other) is kind
    assert length.max is not None
    return length.min or 0, length.max


def _validators(schema: Schema, name: str) -> Sequence[object]:
    return schema.fields[name].validators
