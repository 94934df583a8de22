"""A key is the hash of its parts that every store keeps, whichever way it is made."""

from hashlib import blake2b

import pytest

from aggregator.api.request.parsed_event import ParsedEvent
from aggregator.core import json_values
from aggregator.core.identity import KeySpec, MissingKeyPart, key_of

_EVENT = ParsedEvent("tópic", "1", "2026-01-31T12:00:00Z", "s", b'{"a":{"b":7.0}}')
_PARTS = {
    "topic": "tópic".encode(),
    "event_id": b"1",
    "source": b"s",
    "timestamp": b"2026-01-31T12:00:00Z",
    "/a/b": json_values.scalar(_EVENT.payload, ("a", "b")) or b"",
    "header:x-a": b"h\xff",
}
_HEADERS = {"x-a": "h\udcff"}


def _hash(text: str, *parts: bytes) -> bytes:
    spelled = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode(), *parts))
    return blake2b(b"\x01" + spelled, digest_size=16).digest()


@pytest.mark.parametrize(
    "text",
    [
        *("topic,event_id", "topic,event_id,source", "source,event_id,topic", "event_id"),
        *("event_id,timestamp", "/a/b", "topic,/a/b,source", "header:x-a,source"),
    ],
)
def test_key_is_a_hash_over_the_key_spec_and_its_parts(text: str) -> None:
    parts = [_PARTS[part] for part in text.split(",")]
    assert KeySpec(text).key(_EVENT, _EVENT.payload, _HEADERS) == _hash(text, *parts)


def test_default_key_is_one_of_them() -> None:
    key = key_of(_EVENT.topic, _EVENT.event_id)
    assert key == KeySpec("topic,event_id").key(_EVENT, None, {})


@pytest.mark.parametrize("part", ["timestamp", "/a", "/c", "header:x-b"])
def test_part_that_is_missing_is_told(part: str) -> None:
    event = ParsedEvent("t", "1", "", "s", _EVENT.payload)
    with pytest.raises(MissingKeyPart) as raised:
        KeySpec(f"topic,{part}").key(event, event.payload, _HEADERS)
    assert raised.value.part == part
