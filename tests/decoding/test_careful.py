"""What is looked at closely is looked at once, and takes little memory."""

import tracemalloc

import pytest

from aggregator.api.request import strict_json
from aggregator.api.request.decoder import Decoder, RequestContext
from aggregator.core.policy import Policies, TopicPolicy
from aggregator.event import Event
from aggregator.outcome import Invalid
from aggregator_stages.validate import Validate

_CONTEXT = RequestContext("0", 0)
_DECODER = Decoder(100, 10**7, Policies(TopicPolicy.of("topic,event_id", "keep-first")))
_BEGUN = b'{"topic":"t","event_id":"1","timestamp":"2026-01-31T12:00:00Z","source":"s","payload":'
_CLOUD = b'{"specversion":"1.0","type":"t","id":"1","source":"s","data":'

_BAD = {
    "not JSON": b'{"a":nope}',
    "U+0000": rb'{"a":"\u0000"}',
    "half of a surrogate pair": rb'{"a":"\ud800"}',
    "too large": b'{"a":1e999}',
    "no object": b"[]",
    "unknown member": b'{},"x":1',
}


@pytest.mark.parametrize("begun", [_BEGUN, _CLOUD], ids=["plain", "CloudEvent"])
@pytest.mark.parametrize("payload", _BAD.values(), ids=_BAD)
def test_event_in_doubt_is_looked_at_once(
    begun: bytes, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = strict_json.faults

    def counted(raw: bytes, begin: strict_json.Place = strict_json.FIRST) -> object:
        nonlocal looks
        looks += 1
        return look(raw, begin)

    monkeypatch.setattr(strict_json, "faults", counted)
    _DECODER.json(b"[" + begun + payload + b"}]", _CONTEXT)
    assert looks <= 1


_ROOM = 65_536  # bytes, for what does not depend on the size
_SHAPES = {
    "objects": (b"{}", 20_000),
    "arrays": (b"[]", 20_000),
    "objects of one member": (b'{"a":0}', 10_000),
    "nested": (b"[[[0]]]", 10_000),
    "numbers": (b"1", 30_000),
    "texts": (b'"ab"', 20_000),
}


@pytest.mark.parametrize(("part", "count"), _SHAPES.values(), ids=_SHAPES)
@pytest.mark.parametrize("begun", [_BEGUN, _CLOUD], ids=["plain", "CloudEvent"])
def test_event_in_doubt_takes_a_few_times_its_bytes(begun: bytes, part: bytes, count: int) -> None:
    raw = begun + rb'{"a":["\u0000",' + b",".join([part] * count) + b"]}}"
    tracemalloc.start()
    try:
        (event,) = _DECODER.each([(raw, strict_json.FIRST)], 0, _CONTEXT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(event.outcome, Invalid)
    assert peak < 4 * len(raw) + _ROOM


def _faults(raw: bytes) -> list[tuple[str, str]]:
    return [(fault.pointer, fault.detail) for fault in strict_json.faults(raw)]


def test_member_that_a_later_one_hides_is_looked_at() -> None:
    ((place, detail),) = _faults(rb'[{"a":"\u0000","a":1}]')
    assert place == "/0/a"
    assert "U+0000" in detail


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b'{"a": 1,}', "not JSON: a member is expected"),
        (b'{"a" 1}', "not JSON: a member is expected"),
        (b"[1,]", "not JSON: a value is expected: line 1 column 4"),
        (b"[,1]", "not JSON: a value is expected: line 1 column 2"),
        (b"[1}", "not JSON: a comma or ] is expected: line 1 column 3"),
        (b'{"a":\n1]', "not JSON: a comma or } is expected: line 2 column 2"),
        (b"[1],", "not JSON: it goes on after its end: line 1 column 4"),
        (b"1 2", "not JSON: it goes on after its end: line 1 column 3"),
        (b'["a', "not JSON: a string never ends: line 1 column 2"),
        (b'["a\\', "not JSON: a string may not hold this: line 1 column 4"),
        (b'["a\n"]', "not JSON: a string may not hold this: line 1 column 4"),
        (b"[", "not JSON: a value is expected: line 1 column 2"),
        (b"", "not JSON: a value is expected: line 1 column 1"),
        (b"[" * 101, "nested deeper than 100 levels"),
        (b"[" * 100 + b"{}" + b"]" * 100, "nested deeper than 100 levels"),
    ],
)
def test_broken_grammar_is_told_with_its_place(raw: bytes, detail: str) -> None:
    ((place, told),) = _faults(raw)
    assert place == ""
    assert told.startswith(detail)


def test_hundred_levels_are_taken() -> None:
    assert _faults(b"[" * 99 + b"{}" + b"]" * 99) == []


async def test_number_of_too_many_digits_for_msgspec_is_a_fault_of_its_member() -> None:
    number = b"1" * 100_000 + b"e-100000"
    raw = _BEGUN.replace(b'"t"', number, 1) + b"{}}"
    (event,) = _DECODER.json(raw, _CONTEXT)
    assert event.malformed
    assert await Validate().process([event]) == []
    assert _told(event) == [("/topic", "Should be a string.")]


def _told(event: Event) -> list[tuple[str, str]]:
    assert isinstance(event.outcome, Invalid)
    return [(fault.pointer, fault.detail) for fault in event.outcome.faults]
