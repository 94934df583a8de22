"""Turns bodies into events; what is no event is rejected, event by event."""

from collections.abc import Mapping, Sequence

import msgspec

from aggregator.api.request import splitting, strict_json
from aggregator.api.request.cloudevents import CLOUD, form_of
from aggregator.api.request.parsed_event import (
    EventParser,
    ParsedEvent,
    RejectedEvent,
    parse_array,
    parse_lines,
)
from aggregator.api.request.splitting import Piece
from aggregator.core import timestamp
from aggregator.core.identity import KeySpec, MissingKeyPart, PayloadKind, digest_of, key_of
from aggregator.core.policy import Policies
from aggregator.errors import TooLarge, Unparsable
from aggregator.event import Event
from aggregator.outcome import Fault, Invalid

NO_LINE = Unparsable("The body is empty: send at least one event, one a line.")


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
        """The events of a JSON body: one, or an array of them, each plain or a CloudEvent."""
        whole = body
        begin, body = splitting.beginning(body), splitting.trimmed(body)
        if not body.startswith(b"["):
            return [self._single((body, begin), context, form_of(body))]
        return self.short_array(body, context) or self.lines(
            self.elements(whole, is_batch=False), 0, context
        )

    def ndjson(self, body: bytes, context: RequestContext) -> list[Event]:
        """The events of newline-delimited JSON, one a line, each plain or a CloudEvent."""
        lines = splitting.Lines(self.max_event)
        pieces = [*lines.feed(body), *lines.finish()]
        if not pieces:
            raise NO_LINE
        return self.lines(pieces, 0, context)

    def cloud_event(self, body: bytes, context: RequestContext) -> list[Event]:
        """The one CloudEvent of a body in the structured mode."""
        begin, body = splitting.beginning(body), splitting.trimmed(body)
        if body.startswith(b"["):
            raise Unparsable("The body is an array: send application/cloudevents-batch+json.")
        return [self._single((body, begin), context, CLOUD)]

    def cloud_batch(self, body: bytes, context: RequestContext) -> list[Event]:
        """The CloudEvents of a batch, which may be empty."""
        return self.cloud_events(self.elements(body, is_batch=True), 0, context)

    def elements(self, body: bytes, *, is_batch: bool) -> list[Piece]:
        """The elements of a body that is an array, to be decoded by `lines` or `cloud_events`."""
        begin, body = splitting.beginning(body), splitting.trimmed(body)
        if not body.startswith(b"["):
            raise Unparsable("The body is no array: a batch is an array of CloudEvents.")
        pieces = splitting.elements(body, self.max_events, begin)
        if not (pieces or is_batch):
            raise Unparsable("The array is empty: send at least one event.")
        return pieces

    def cloud_events(
        self, pieces: Sequence[Piece], first: int, context: RequestContext
    ) -> list[Event]:
        """The CloudEvents of these elements, of which the first is the submission's `first`."""
        return self._of_forms(pieces, [CLOUD] * len(pieces), first, context)

    def check_count(self, events: int) -> None:
        """Raise TooLarge where a request has more events than are taken."""
        if events > self.max_events:
            raise splitting.too_many(self.max_events)

    def check_length(self, body: bytes) -> None:
        """Raise TooLarge where a body that is part of an event is too long to be one."""
        if len(body) > self.max_event:
            raise TooLarge(self._too_long())

    def again(self, raw: bytes, index: int, context: RequestContext, is_cloud_event: bool) -> Event:
        """The event that `Event.as_sent` gave these bytes for."""
        piece = raw, strict_json.FIRST
        return self._one_of_many(piece, index, context, CLOUD if is_cloud_event else form_of(raw))

    def lines(self, pieces: Sequence[Piece], first: int, context: RequestContext) -> list[Event]:
        """The events of these lines, of which the first is the submission's `first`."""
        self.check_count(first + len(pieces))
        return self.together(pieces, first, context) or self.each(pieces, first, context)

    def together(self, pieces: Sequence[Piece], first: int, context: RequestContext) -> list[Event]:
        """The same by the quick way; none unless none of them is in doubt."""
        raws = [raw for raw, _ in pieces]
        if max(map(len, raws), default=0) > self.max_event:
            return []
        return self._unless_rejected(parse_lines(raws), first, context)

    def each(self, pieces: Sequence[Piece], first: int, context: RequestContext) -> list[Event]:
        """The same whatever they are: CloudEvents, or in doubt."""
        return self._of_forms(pieces, [form_of(raw) for raw, _ in pieces], first, context)

    def short_array(self, body: bytes, context: RequestContext) -> list[Event]:
        """Its events; none unless it is short and none of them is in doubt. Raises TooLarge."""
        if len(body) > self.max_event:
            return []
        parsed = parse_array(body)
        self.check_count(len(parsed))
        return self._unless_rejected(parsed, 0, context)

    def short_batch(self, body: bytes, context: RequestContext) -> list[Event]:
        """The same for a batch of CloudEvents. Raises TooLarge or Unparsable."""
        if len(body) > self.max_event:
            return []
        raws = [raw for raw, _ in self.elements(body, is_batch=True)]
        return self._unless_rejected(CLOUD.parse_together(raws), 0, context)

    def _of_forms(
        self,
        pieces: Sequence[Piece],
        parsers: Sequence[EventParser],
        first: int,
        context: RequestContext,
    ) -> list[Event]:
        """The events, one by one where any of them is in doubt."""
        if CLOUD in parsers and max(len(raw) for raw, _ in pieces) <= self.max_event:
            parsed = _together([raw for raw, _ in pieces], parsers)
            if events := self._unless_rejected(parsed, first, context):
                return events
        return [
            self._one_of_many(piece, index, context, parser)
            for index, (piece, parser) in enumerate(zip(pieces, parsers, strict=True), first)
        ]

    def _unless_rejected(
        self, parsed: Sequence[ParsedEvent], first: int, context: RequestContext
    ) -> list[Event]:
        """The events, unless a part of a key is missing: then they are to be decoded one by one."""
        try:
            return self._events(parsed, first, context)
        except RejectedEvent:
            return []

    def _single(self, piece: Piece, context: RequestContext, parser: EventParser) -> Event:
        raw, _ = piece
        if not raw:
            raise Unparsable("The body is empty: send an event or an array of events.")
        if len(raw) > self.max_event:
            raise TooLarge(self._too_long() + _hint(raw, parser))
        try:
            return self._event(piece, 0, context, parser)
        except RejectedEvent as rejected:
            if rejected.is_unreadable:
                why = rejected.faults[0].detail
                raise Unparsable(f"The body is {why}.{_hint(raw, parser)}") from rejected
            return _invalid(rejected, raw, 0, context, parser)

    def _one_of_many(
        self, piece: Piece, index: int, context: RequestContext, parser: EventParser
    ) -> Event:
        try:
            return self._event(piece, index, context, parser)
        except RejectedEvent as rejected:
            return _invalid(rejected, piece[0], index, context, parser)

    def _event(
        self, piece: Piece, index: int, context: RequestContext, parser: EventParser
    ) -> Event:
        """Raises RejectedEvent."""
        raw, begin = piece
        if len(raw) > self.max_event:
            raise RejectedEvent([Fault("", self._too_long())])
        (event,) = self._events([parser.parse(raw, begin)], index, context)
        return event

    def _events(
        self, parsed: Sequence[ParsedEvent], first: int, context: RequestContext
    ) -> list[Event]:
        """Raises RejectedEvent where a part of a key is missing."""
        submission, received_at = context.submission, context.received_at
        policies_of = self.policies.of
        events = []
        for index, event in enumerate(parsed, first):
            policies = policies_of(event.topic)
            key_spec = policies.cloud_key_spec if event.attributes else policies.key_spec
            name = key_of(event.topic, event.event_id)
            key = name if key_spec.is_default else _key(event, key_spec, context)
            events.append(
                Event(
                    index,
                    submission,
                    received_at,
                    event.topic,
                    event.event_id,
                    event.timestamp,
                    event.source,
                    event.payload,
                    key,
                    digest_of(event.source, event.payload, event.payload_kind),
                    payload_kind=event.payload_kind,
                    attributes=event.attributes,
                    name=b"" if key is name else name,
                    on_conflict=policies.on_conflict,
                    known_timestamp_us=timestamp.try_parse(event.timestamp),
                )
            )
        return events

    def _too_long(self) -> str:
        return f"The event has more bytes than the {self.max_event:,} that max_event allows."


def _together(raws: Sequence[bytes], parsers: Sequence[EventParser]) -> list[ParsedEvent]:
    """The events, those of each form by its quick way; none where any of them is in doubt."""
    by_form = {
        form: iter(
            form.parse_together(
                [raw for raw, parser in zip(raws, parsers, strict=True) if parser is form]
            )
        )
        for form in set(parsers)
    }
    try:
        return [next(by_form[parser]) for parser in parsers]
    except StopIteration:
        return []


def _key(event: ParsedEvent, key_spec: KeySpec, context: RequestContext) -> bytes:
    """Raises RejectedEvent where a part of the key is missing."""
    payload = event.payload if event.payload_kind is PayloadKind.JSON else None
    try:
        return key_spec.key(event, payload, context.headers)
    except MissingKeyPart as missing:
        raise RejectedEvent.without_key(event, missing) from missing


def _hint(raw: bytes, parser: EventParser) -> str:
    return f" {parser.several}" if splitting.is_followed(raw) else ""


def _invalid(
    rejected: RejectedEvent, raw: bytes, index: int, context: RequestContext, parser: EventParser
) -> Event:
    """The event that stands for bytes that were rejected; a malformed one is left to the stages."""
    event = Event(
        index,
        context.submission,
        context.received_at,
        *parser.names(raw),
        malformed=rejected.malformed,
        raw=raw,
        attributes=parser.attributes,
    )
    if rejected.faults:
        event.settle(Invalid(rejected.faults))
    return event
