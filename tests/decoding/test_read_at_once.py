"""What the quick check of strict JSON passes, the slow look at each event passes too."""

import json
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_up import cloud

from aggregator.api.request import strict_json
from aggregator.api.request.decoder import Decoder, RequestContext
from aggregator.core.policy import Policies, TopicPolicy
from aggregator.errors import AggregatorError
from aggregator.event import Event
from spellings import objects

CONTEXT = RequestContext("0", 0)
USUAL = TopicPolicy.of("topic,event_id", "keep-first")
ODD = Policies(TopicPolicy.of("topic, /a, timestamp", "keep-first"))
RULES = Policies(USUAL, {"odd": TopicPolicy.of("topic,event_id", "reject")})
GOOD = (
    b'{"topic": "t", "event_id": "1", "timestamp": "2026-01-31T12:00:00Z", "source": "s",'
    b' "payload": {}}'
)
COMPACT = GOOD.replace(b": ", b":").replace(b", ", b",")
"""As msgspec would write it."""
CUT = len(GOOD) + 40
"""Where a decoder of these tests finds an event too long."""


HOSTILE = [
    *(b"1e400", b"-1E+400", b"1E400", b"-1e+0400", b"2e308", b"1e308", b"1e-400", b"1e0309"),
    *(b"9" * 308, b"9" * 309, b"9" * 400, b"1" * 250 + b"e99", b"0." + b"1" * 400),
    *(b"01", b"1.", b"NaN", b"-", b'"\\u0000"', b'"\\\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"'),
    *(b'"\\ud800\\u0061"', b'"\\u0061"', b'"\\q"', b'"\0"', b'"\xff"', b'"\xed\xa0\x80"'),
    *('"é€😀"'.encode(), b'"\n"', b'"\\""', b'"{[{["', b'"3e9999"', b'"topic"', b'{"topic":"t"}'),
    *(b"[" * 98 + b"]" * 98, b"[" * 99 + b"]" * 99, b'{"":' * 99 + b"1" + b"}" * 99),
    *(b"[" * 3000 + b"]" * 3000, b'"a","topic":"a"', b'"a","t\\u006fpic":"a"', b'"a","odd":"a"'),
    *(b"null", b"1", b"[]", b"}", b"{", b"]", b",", b""),
]
"""Values that are not taken, or only just."""

_hostile = st.sampled_from(HOSTILE)
_texts = st.sampled_from([b'"a"', b'""', b'"\\u0061"', '"é"'.encode(), b'"\\""', b"1", b"null"])
_names = st.sampled_from(
    [b"topic", b"event_id", b"timestamp", b"source", b"payload", b"t\\u006fpic", b"odd", b"digest"]
)


@st.composite
def _payloads(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 3)):
        return draw(objects).encode()
    value = draw(_hostile)
    return (
        draw(st.sampled_from([b"%b", b'{"a":%b}', b'{"a":[1,%b],"b":"\\n"}', b'{%b:"a"}'])) % value
    )


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """An event as it may be sent, most often a good one."""
    members = {
        b"topic": draw(st.sampled_from([b'"t"', b'"odd"'])),
        b"event_id": json.dumps(draw(st.text('abé\\"', max_size=3)), ensure_ascii=False).encode(),
        b"timestamp": draw(st.sampled_from([b'"2026-01-31T12:00:00Z"', b'"yesterday"'])),
        b"source": b'"s"',
        b"payload": draw(_payloads()),
    }
    between = draw(st.sampled_from([b": ", b":"]))
    spelled = [b'"%b"%b%b' % (name, between, value) for name, value in members.items()]
    if draw(st.integers(0, 4)) == 0:
        spelled.append(b'"%b":%b' % (draw(_names), draw(_texts | _hostile)))
    if draw(st.integers(0, 9)) == 0:
        spelled.pop(draw(st.integers(0, len(spelled) - 1)))
    return b"{" + b",".join(draw(st.just(spelled) | st.permutations(spelled))) + b"}"


def _array(decoder: Decoder, raws: list[bytes]) -> list[Event]:
    return decoder.json(b" [" + b" ,\n".join(raws) + b"]", CONTEXT)


def _compact_array(decoder: Decoder, raws: list[bytes]) -> list[Event]:
    return decoder.json(b"[" + b",".join(raws) + b"]", CONTEXT)


def _alone(decoder: Decoder, raws: list[bytes]) -> list[Event]:
    return decoder.json(b"".join(raws), CONTEXT)


def _lines(decoder: Decoder, raws: list[bytes]) -> list[Event]:
    return decoder.ndjson(b"\r\n".join(raws), CONTEXT)


def _cloud_event(decoder: Decoder, raws: list[bytes]) -> list[Event]:
    return decoder.cloud_event(b"".join(raws), CONTEXT)


def _cloud_batch(decoder: Decoder, raws: list[bytes]) -> list[Event]:
    return decoder.cloud_batch(b"[" + b",".join(raws) + b"]", CONTEXT)


Way = Callable[[Decoder, list[bytes]], list[Event]]


def _outcome(way: Way, decoder: Decoder, raws: list[bytes]) -> object:
    try:
        return [(event, event.timestamp_us) for event in way(decoder, raws)]
    except AggregatorError as error:
        return type(error), str(error)


def _slow_outcome(way: Way, decoder: Decoder, raws: list[bytes]) -> object:
    """The same where each event is looked at slowly, by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "is_surely_taken", lambda *_: False)
        return _outcome(way, decoder, raws)


@pytest.mark.parametrize("policies", [RULES, ODD])
@pytest.mark.parametrize("way", [_array, _compact_array, _alone, _lines])
@settings(deadline=None, max_examples=150)
@given(raws=st.lists(events() | st.binary(max_size=9), max_size=4), limits=st.booleans())
@example(raws=[GOOD, GOOD.replace(b"{}", b'{"a":1e400}')], limits=False)
@example(raws=[GOOD, GOOD.replace(b"}}", b'},"topic":"t"}')], limits=False)
@example(raws=[COMPACT, COMPACT.replace(b"}}", b'},"topic":"t"}')], limits=False)
@example(raws=[COMPACT, COMPACT.replace(b'{"t', b'{"topic":"t","t')], limits=False)
@example(raws=[b'{"topic":"t","payload":{"x":[{}', b"{}]}}", b"%b,%b" % (GOOD, GOOD)], limits=False)
def test_read_at_once_or_one_by_one(
    way: Way, policies: Policies, raws: list[bytes], limits: bool
) -> None:
    decoder = Decoder(*((2, CUT) if limits else (10, 100_000)), policies)
    assert _outcome(way, decoder, raws) == _slow_outcome(way, decoder, raws)


@pytest.mark.parametrize("way", [_array, _compact_array, _alone, _lines])
@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("good", [GOOD, COMPACT])
def test_no_value_makes_a_difference(way: Way, good: bytes, value: bytes) -> None:
    decoder = Decoder(30, 100_000, RULES)
    for raw in (
        good.replace(b"{}", b'{"a":%b}' % value),
        good.replace(b"{}", b'{"a":"%b","b":%b}' % (b"x" * 300, value)),
        good.replace(b"{}", value),
        good.replace(b'"t"', value),
    ):
        for raws in ([raw], [raw, good], [good] * 20 + [raw] + [good] * 7):
            assert _outcome(way, decoder, raws) == _slow_outcome(way, decoder, raws)


CLOUD = b'{"specversion":"1.0","type":"t","id":"1","source":"s","a":"b","data":{}}'


@pytest.mark.parametrize("way", [_cloud_event, _cloud_batch])
@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_makes_a_difference_in_a_cloud_event(way: Way, value: bytes) -> None:
    decoder = Decoder(30, 100_000, RULES)
    for raw in (
        CLOUD.replace(b"{}", b'{"a":%b}' % value),
        CLOUD.replace(b"{}", value),
        CLOUD.replace(b'"b"', value),
        CLOUD.replace(b'"a":"b"', b'"a":"%b","b":%b' % (b"x" * 300, value)),
        CLOUD.replace(b'"a":"b"', b"%b:1" % value),
        CLOUD.replace(b'"t"', value),
        CLOUD.replace(b'"data":{}', b'"data":%b,"data":1' % value),
    ):
        assert _outcome(way, decoder, [raw]) == _slow_outcome(way, decoder, [raw])


@settings(deadline=None, max_examples=500)
@given(st.lists(cloud(), max_size=3))
def test_cloud_events_are_taken_as_by_the_slow_look(raws: list[bytes]) -> None:
    decoder = Decoder(30, 2000, RULES)
    assert _outcome(_cloud_batch, decoder, raws) == _slow_outcome(_cloud_batch, decoder, raws)


PAYLOADS = [
    *(b"{}", b'{"a": "\\u00e9\\n"}', '{"é": "€"}'.encode()),
    *(b'{"id": "1e999", "n": 1.5e-7}', b'{"a":%b}' % (b"[" * 98 + b"]" * 98)),
    b'{"a":"%b"}' % (b"x" * 5000),
    b'{"a":[%b]}' % b",".join([b'{"n":[1]}'] * 200),
]


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("way", [_array, _compact_array, _lines])
def test_usual_events_are_never_looked_at_slowly(
    monkeypatch: pytest.MonkeyPatch, way: Way, payload: bytes
) -> None:
    monkeypatch.setattr(strict_json, "faults", None)
    decoder = Decoder(30, 100_000, RULES)
    for good in (GOOD, COMPACT):
        raws = [good, good.replace(b"{}", payload)]
        assert len(way(decoder, raws)) == len(raws)
