"""CloudEvents that are decoded together are what each of them says."""

import pytest
from cloud_events import Said, cloud_events, said, spellings_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_read_at_once import COMPACT, CONTEXT, GOOD, HOSTILE, RULES, events

from aggregator.api.request import cloudevents, strict_json
from aggregator.api.request.decoder import Decoder
from aggregator.event import Event
from aggregator.outcome import Invalid

_DECODER = Decoder(30, 1_000_000, RULES)
_CLOUD = b'{"specversion":"1.0","type":"t","id":"1","source":"s","subject":"b","data":{}}'


def _batch(raws: list[bytes]) -> list[Event]:
    return _DECODER.cloud_batch(b"[" + b",".join(raws) + b"]", CONTEXT)


def _said(event: Event) -> Said | None:
    """What was read; None if it is not taken."""
    if event.malformed or isinstance(event.outcome, Invalid):
        return None
    return Said(
        event.topic,
        event.event_id,
        event.timestamp,
        event.source,
        event.payload_kind,
        event.payload,
        list(spellings_of(event.attributes).items()),
    )


def _pieces(raws: list[bytes]) -> list[tuple[bytes, strict_json.Place]]:
    return [(raw, strict_json.FIRST) for raw in raws]


@settings(deadline=None, max_examples=1000)
@given(raws=st.lists(cloud_events(), min_size=1, max_size=4))
@example(raws=[_CLOUD, _CLOUD.replace(b'"b"', b'"b","subject":"c"')])
@example(raws=[_CLOUD.replace(b'"b"', b'1,"a\\u0022b":1,"c\\u0022d":1,"subject":1')])
@example(raws=[_CLOUD.replace(b'"b"', b'null,"a":null'), _CLOUD.replace(b"{}", b"null")])
@example(raws=[_CLOUD.replace(b'"data":{}', b'"data":null,"data_base64":"YQ=="')])
@example(raws=[_CLOUD.replace(b'"data":{}', b'"data":1,"data_base64":null')])
@example(raws=[_CLOUD.replace(b'"b"', b"1" * 100_000 + b"e-100000")])
def test_event_is_what_it_says(raws: list[bytes]) -> None:
    together = _DECODER.cloud_events(_pieces(raws), 0, CONTEXT)
    assert [_said(event) for event in together] == [said(raw) for raw in raws]


_any = events() | cloud_events() | st.binary(max_size=9)


@pytest.mark.parametrize("way", ["lines", "array"])
@settings(deadline=None, max_examples=300)
@given(raws=st.lists(_any, min_size=1, max_size=5))
@example(raws=[GOOD, _CLOUD, COMPACT, _CLOUD])
@example(raws=[_CLOUD, GOOD.replace(b"{}", b'{"specversion":"1.0"}')])
@example(raws=[_CLOUD, GOOD.replace(b"{}", b'{"a":1e400}'), _CLOUD])
@example(raws=[GOOD, _CLOUD.replace(b'"b"', b'"b","event_id":"1"')])
@example(raws=[_CLOUD.replace(b'"specversion"', b'"sp\\u0065cversion"'), _CLOUD])
def test_forms_may_be_mixed(way: str, raws: list[bytes]) -> None:
    raws = [raw.replace(b"\n", b" ").replace(b"\r", b" ").strip() for raw in raws]
    pieces = _pieces([raw for raw in raws if raw])
    together = _DECODER.lines(pieces, 0, CONTEXT)
    alone = [event for index, piece in enumerate(pieces) for event in _alone(piece, index)]
    assert together == alone


def _alone(piece: tuple[bytes, strict_json.Place], index: int) -> list[Event]:
    """The event, by the slow look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "is_surely_taken", lambda *_: False)
        return _DECODER.lines([piece], index, CONTEXT)


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_makes_a_difference_to_its_neighbours(value: bytes) -> None:
    good = _said(_batch([_CLOUD])[0])
    for raw in (
        _CLOUD.replace(b"{}", value),
        _CLOUD.replace(b'"b"', value),
        _CLOUD.replace(b'"t"', value),
        _CLOUD.replace(b'"s"', b'"s","time":%b' % value),
        _CLOUD.replace(b'"data":{}', b'"data_base64":%b' % value),
    ):
        first, odd, last = _DECODER.cloud_events(_pieces([_CLOUD, raw, _CLOUD]), 0, CONTEXT)
        assert _said(first) == _said(last) == good
        (alone,) = _alone((raw, strict_json.FIRST), 1)
        assert _said(odd) == _said(alone)


USUAL = [
    _CLOUD,
    _CLOUD.replace(b'"b"', b'"\\"b\\"","traceparent":"00-1e400-1","shard":7,"open":true'),
    _CLOUD.replace(b'"b"', b"null").replace(b"{}", b"null"),
    _CLOUD.replace(b'"data":{}', b'"data_base64":"YQ==","time":"2026-01-31T12:00:00Z"'),
    _CLOUD.replace(b',"data":{}', b""),
    _CLOUD.replace(b"{}", b"[%b]" % b",".join([b'{"n":["\xc3\xa9"]}'] * 200)),
    _CLOUD.replace(b":", b": ").replace(b",", b" ,"),
]


@pytest.mark.parametrize("way", ["batch", "array", "lines", "mixed lines"])
def test_usual_events_are_decoded_together(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "faults", None)
    monkeypatch.setattr(cloudevents.CLOUD.parse, "__code__", _never.__code__)
    array = b"[" + b",".join(USUAL) + b"]"
    match way:
        case "batch":
            assert len(_DECODER.cloud_batch(array, CONTEXT)) == len(USUAL)
        case "array":
            assert len(_DECODER.json(array, CONTEXT)) == len(USUAL)
        case "lines":
            assert len(_DECODER.ndjson(b"\n".join(USUAL), CONTEXT)) == len(USUAL)
        case "mixed lines":
            assert len(_DECODER.ndjson(b"\n".join([GOOD, *USUAL]), CONTEXT)) == len(USUAL) + 1


def _never(raw: bytes, begin: strict_json.Place) -> None:
    raise AssertionError("one by one")


@pytest.mark.parametrize("rest", [b"}", b',"a":nope}', b","])
def test_form_is_told_by_the_members_of_the_event(rest: bytes) -> None:
    cloud = b'{"specversion":1,"a":{"event_id":1}'
    assert cloudevents.form_of(cloud + rest) is cloudevents.CLOUD
    for other in (
        b'{"a":{"specversion":1},"b":1',
        b'{"specversion":1,"event_id":{}',
        b'["specversion"',
    ):
        assert cloudevents.form_of(other + rest) is not cloudevents.CLOUD
