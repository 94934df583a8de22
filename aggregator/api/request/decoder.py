"""Turns bodies into events; what is no event it refuses, event by event."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import structs

from aggregator.api.request import plain_events, splitting
from aggregator.api.request.cloudevents import CLOUD
from aggregator.api.request.parsed_event import EventParser, ParsedEvent, RejectedEvent
from aggregator.api.request.plain_event import PLAIN
from aggregator.core import timestamp
from aggregator.core.identity import MissingKeyPart, PayloadKind, digest_of, key_of
from aggregator.core.policy import Policies, TopicPolicy
from aggregator.errors import TooLarge, Unparsable
from aggregator.event import Event
from aggregator.outcome import Fault, Invalid

_FEW = 8  # events, of which no part is worth a look of its own


class RequestContext(msgspec.Struct, frozen=True):
    """What the events of one request have in common."""

    submission: str
    received_at: int
    headers: Mapping[str, str] = {}
    """Those that keys are made of, by their names in lower case."""


class Decoder:
    """Decodes bodies under two limits: events in a submission, and bytes of one event.

    What is wrong with one event of several settles that one as invalid, so that its neighbours
    are not refused with it. Raises Unparsable where no event can be told from another, and
    TooLarge over a limit.
    """

    def __init__(self, max_events: int, max_event: int, policies: Policies) -> None:
        self.max_events = max_events
        self.max_event = max_event
        self.policies = policies

    def json(self, body: bytes, context: RequestContext) -> list[Event]:
        """The events of a JSON body: one, or an array of them."""
        body = splitting.trimmed(body)
        if not body.startswith(b"["):
            return [self._single(body, context, PLAIN)]
        events = self.plain_array(body, context) or self._array(body, context, PLAIN)
        if not events:
            raise Unparsable("The array is empty: send at least one event.")
        return events

    def ndjson(self, context: RequestContext) -> "NdjsonDecoder":
        """Decodes newline-delimited JSON, one event a line, as it arrives."""
        return NdjsonDecoder(self, context)

    def cloud_event(self, body: bytes, context: RequestContext) -> list[Event]:
        """The one CloudEvent of a body in the structured mode."""
        body = splitting.trimmed(body)
        if body.startswith(b"["):
            raise Unparsable("The body is an array: send application/cloudevents-batch+json.")
        return [self._single(body, context, CLOUD)]

    def cloud_batch(self, body: bytes, context: RequestContext) -> list[Event]:
        """The CloudEvents of a batch, which may be empty."""
        body = splitting.trimmed(body)
        if not body.startswith(b"["):
            raise Unparsable("The body is no array: a batch is an array of CloudEvents.")
        return self._array(body, context, CLOUD)

    def again(self, raw: bytes, index: int, context: RequestContext, is_cloud_event: bool) -> Event:
        """The event that `Event.as_sent` gave these bytes for."""
        return self._event(raw, index, context, CLOUD if is_cloud_event else PLAIN)

    def lines(self, raws: Sequence[bytes], first: int, context: RequestContext) -> list[Event]:
        """The events of these lines, of which the first is the submission's `first`."""
        if first + len(raws) > self.max_events:
            raise splitting.too_many(self.max_events)
        return self._in_parts(raws, first, context)

    def _in_parts(self, raws: Sequence[bytes], first: int, context: RequestContext) -> list[Event]:
        """The plain events of these, looked at one by one in the parts alone that are in doubt."""
        if events := self._plain_lines(raws, first, context):
            return events
        if len(raws) > _FEW and self.policies.is_usual:
            half = len(raws) // 2
            head = self._in_parts(raws[:half], first, context)
            return head + self._in_parts(raws[half:], first + half, context)
        return [self._event(raw, index, context, PLAIN) for index, raw in enumerate(raws, first)]

    def _plain_lines(
        self, raws: Sequence[bytes], first: int, context: RequestContext
    ) -> list[Event]:
        """Their events, where they can be read at once."""
        if not self.policies.is_usual or max(map(len, raws), default=0) > self.max_event:
            return []
        return self._plain(plain_events.of_lines(raws), first, context)

    def plain_array(self, body: bytes, context: RequestContext) -> list[Event]:
        """Its events; none unless it is short and nothing about it is in doubt. Raises TooLarge."""
        if len(body) > self.max_event or not self.policies.is_usual:
            return []
        read = plain_events.of_array(body)
        if len(read) > self.max_events:
            raise splitting.too_many(self.max_events)
        return self._plain(read, 0, context)

    def _plain(self, read: plain_events.Read, first: int, context: RequestContext) -> list[Event]:
        policies = self.policies
        usual = None if policies.by_topic else policies.usual.on_conflict
        submission, received_at = context.submission, context.received_at
        return [
            Event(
                index,
                submission,
                received_at,
                event.topic,
                event.event_id,
                event.timestamp,
                event.source,
                payload,
                key_of(event.topic, event.event_id),
                digest_of(event.source, payload),
                on_conflict=usual or policies.of(event.topic).on_conflict,
                known_timestamp_us=timestamp.try_parse(event.timestamp),
            )
            for index, (event, payload) in enumerate(read, first)
        ]

    def _array(self, body: bytes, context: RequestContext, parser: EventParser) -> list[Event]:
        raws = splitting.elements(body, self.max_events)
        if parser is PLAIN:
            return self._in_parts(raws, 0, context)
        return [self._event(raw, index, context, parser) for index, raw in enumerate(raws)]

    def _single(self, raw: bytes, context: RequestContext, parser: EventParser) -> Event:
        if not raw:
            raise Unparsable("The body is empty: send an event or an array of events.")
        if len(raw) > self.max_event:
            raise TooLarge(self._too_long())
        try:
            return self._read(raw, 0, context, parser)
        except RejectedEvent as rejected:
            if rejected.is_unreadable:
                raise Unparsable(f"The body is {rejected.faults[0].detail}.") from rejected
            return _kept_back(rejected, raw, 0, context, parser)

    def _event(self, raw: bytes, index: int, context: RequestContext, parser: EventParser) -> Event:
        try:
            return self._read(raw, index, context, parser)
        except RejectedEvent as rejected:
            return _kept_back(rejected, raw, index, context, parser)

    def _read(self, raw: bytes, index: int, context: RequestContext, parser: EventParser) -> Event:
        if len(raw) > self.max_event:
            raise RejectedEvent([Fault("", self._too_long())])
        parsed = parser.read(raw)
        policies = self.policies.of(parsed.topic)
        name = key_of(parsed.topic, parsed.event_id)
        key = _key(parsed, name, policies, context)
        return Event(
            index,
            context.submission,
            context.received_at,
            parsed.topic,
            parsed.event_id,
            parsed.timestamp,
            parsed.source,
            parsed.payload,
            key,
            digest_of(parsed.source, parsed.payload, parsed.payload_kind),
            payload_kind=parsed.payload_kind,
            attributes=parsed.attributes,
            name=b"" if key == name else name,
            on_conflict=policies.on_conflict,
            known_timestamp_us=timestamp.try_parse(parsed.timestamp),
        )

    def _too_long(self) -> str:
        return f"The event has more bytes than the {self.max_event:,} that max_event allows."


class NdjsonDecoder:
    """The events of newline-delimited JSON, decoded while the body is read.

    So the memory never holds both the body and its events. Blank lines are passed over.
    """

    def __init__(self, decoder: Decoder, context: RequestContext) -> None:
        self._decoder = decoder
        self._context = context
        self._lines = splitting.Lines(decoder.max_event)
        self._events: list[Event] = []

    def feed(self, piece: bytes) -> None:
        """Decode the lines that end in this piece of the body. Raises TooLarge."""
        self._decode(self._lines.feed(piece))

    def finish(self) -> list[Event]:
        """All events. Raises TooLarge, or Unparsable if there is none."""
        self._decode(self._lines.finish())
        if not self._events:
            raise Unparsable("The body is empty: send at least one event, one a line.")
        return self._events

    def _decode(self, raws: Sequence[bytes]) -> None:
        self._events += self._decoder.lines(raws, len(self._events), self._context)


def _key(parsed: ParsedEvent, name: bytes, policies: TopicPolicy, context: RequestContext) -> bytes:
    """Raises RejectedEvent where a part of the key is missing."""
    key_spec = policies.cloud_key_spec if parsed.attributes else policies.key_spec
    if key_spec.is_usual:
        return name
    payload = parsed.payload if parsed.payload_kind is PayloadKind.JSON else None
    try:
        return key_spec.key(structs.asdict(parsed), payload, context.headers)
    except MissingKeyPart as missing:
        raise RejectedEvent.without_key(parsed, missing) from missing


def _kept_back(
    rejected: RejectedEvent, raw: bytes, index: int, context: RequestContext, parser: EventParser
) -> Event:
    event = Event(
        index,
        context.submission,
        context.received_at,
        rejected.topic,
        rejected.event_id,
        malformed=rejected.malformed,
        raw=raw,
        attributes=parser.attributes,
    )
    if rejected.faults:
        event.settle(Invalid(rejected.faults))
    return event
