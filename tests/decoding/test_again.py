"""An event that was kept as it was sent is the same event when it is decoded again."""

from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import cloud, plain

from aggregator.api.request.decoder import Decoder, RequestContext
from aggregator.core.json_values import JsonValue
from aggregator.core.policy import Policies, TopicPolicy
from aggregator.event import Event

CONTEXT = RequestContext("0", 0, {"x-tenant": "a"})
USUAL = Policies(TopicPolicy.of("topic,event_id", "keep-first"))
ODD = Policies(TopicPolicy.of("topic, source, timestamp, header:X-Tenant", "reject"))


def _is_same(one: Event, other: Event) -> bool:
    if one.attributes and other.attributes:
        assert JsonValue(one.attributes).is_same(JsonValue(other.attributes))
    return _members(one) == _members(other)


def _members(event: Event) -> tuple[object, ...]:
    return (
        (
            event.topic,
            event.event_id,
            event.timestamp,
            event.source,
            event.payload,
            event.payload_kind,
        ),
        (bool(event.attributes), event.key, event.name, event.digest, event.on_conflict),
        (event.malformed, event.outcome, event.index, event.submission),
    )


def _comes_back(raw: bytes, is_cloud_event: bool) -> None:
    for policies in (USUAL, ODD):
        decoder = Decoder(10, 2000, policies)
        event = decoder.again(raw, 3, CONTEXT, is_cloud_event)
        again = decoder.again(event.as_sent(), 3, CONTEXT, is_cloud_event)
        assert _is_same(event, again)
        assert bool(event.attributes) == is_cloud_event


@settings(deadline=None)
@given(raw=plain() | st.binary())
def test_plain_event_comes_back(raw: bytes) -> None:
    _comes_back(raw, False)


@settings(deadline=None)
@given(raw=cloud() | st.binary())
def test_cloud_event_comes_back(raw: bytes) -> None:
    _comes_back(raw, True)


def test_line_that_was_cut_is_still_too_long() -> None:
    decoder = Decoder(10, 20, USUAL)
    (event,) = decoder.ndjson(b"{}" + b" " * 100 + b"x", CONTEXT)
    assert len(event.raw) < 30
    again = decoder.again(event.as_sent(), 0, CONTEXT, is_cloud_event=False)
    assert again.outcome == event.outcome
