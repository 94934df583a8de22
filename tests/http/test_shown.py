"""What is no longer there, or no longer as it was, is said in every form."""

import json
from typing import Any

import msgspec
import pytest

from aggregator.api.stored_event import (
    payload_state,
    render_cloud_event,
    render_json,
    render_line,
    uri_reference,
)
from aggregator.core.identity import PayloadKind, digest_of
from aggregator.store import StoredEvent


def _stored(payload: bytes | None, was: bytes = b"{}", **members: Any) -> StoredEvent:
    form = members.get("payload_kind", PayloadKind.JSON)
    digest = digest_of("tests", was, form)
    return StoredEvent(
        1, 0, "logins", "1", "2026-01-31T12:00:00Z", "tests", payload, b"", digest, **members
    )


def _json(found: StoredEvent) -> dict[str, Any]:
    """The event as a reader decodes it."""
    return json.loads(msgspec.json.encode(render_json(found)))


CLOUD = {"attributes": b'{"specversion":"1.0"}'}


@pytest.mark.parametrize("members", [{}, CLOUD, {**CLOUD, "payload_kind": PayloadKind.BYTES}])
def test_payload_that_is_kept_no_more_is_said_to_be(members: dict[str, Any]) -> None:
    emptied = _stored(None, **members)
    told = _json(emptied)
    assert (told["payload"], "kept no more" in told["emptied"]) == (None, True)
    cloud = render_cloud_event(emptied)
    assert "kept no more" in cloud["aggregatoremptied"]
    assert not {"data", "data_base64", "emptied", "aggregatordamaged"} & cloud.keys()


@pytest.mark.parametrize("members", [{}, CLOUD, {**CLOUD, "payload_kind": PayloadKind.BYTES}])
def test_damaged_payload_is_not_shown_but_said_to_be_damaged(members: dict[str, Any]) -> None:
    damaged = _stored(b"{\xff", **members)
    told = _json(damaged)
    assert (told["payload"], "does not match" in told["damaged"]) == (None, True)
    cloud = render_cloud_event(damaged)
    assert "does not match" in cloud["aggregatordamaged"]
    assert not {"data", "data_base64", "damaged", "aggregatoremptied"} & cloud.keys()
    json.loads(render_line(damaged))


def test_extensions_of_a_publisher_are_not_taken_for_ours() -> None:
    attributes = b'{"specversion":"1.0","emptied":"by hand","damaged":true}'
    cloud = render_cloud_event(_stored(None, attributes=attributes))
    assert (cloud["emptied"], cloud["damaged"]) == ("by hand", True)
    assert "kept no more" in cloud["aggregatoremptied"]


def test_no_data_is_another_thing_than_data_that_is_null() -> None:
    nothing = _stored(b"", b"", **{**CLOUD, "payload_kind": PayloadKind.NOTHING})
    null = _stored(b"null", b"null", **CLOUD)
    for show, name in ((_json, "payload"), (render_cloud_event, "data")):
        assert name not in show(nothing)
        assert json.loads(msgspec.json.encode(show(null)))[name] is None
    assert b'"payload"' not in render_line(nothing)
    assert b'"payload":null' in render_line(null)


def test_damage_shows_also_where_there_was_no_payload() -> None:
    damaged = _stored(b"", b"{}", **{**CLOUD, "payload_kind": PayloadKind.NOTHING})
    assert "damaged" in _json(damaged)


REFERENCES = {
    "tests": "tests",
    "/sensors/1?a=b#c": "/sensors/1?a=b#c",
    "https://user:pw@a.example:80/b/c?d=[": "https%3A//user%3Apw%40a.example%3A80/b/c%3Fd%3D%5B",
    "https://[::1]:80/a": "https://[::1]:80/a",
    "urn:uuid:6e8bc430": "urn:uuid:6e8bc430",
    "https://a.example/caf\u00e9 1": "https://a.example/caf%C3%A9%201",
    "100% 10.0.0.1:80": "100%25%2010.0.0.1%3A80",
    "10.0.0.1:80": "10.0.0.1%3A80",
    "a%20b": "a%20b",
    "50%": "50%25",
    "a#b#c": "a%23b%23c",
    "//host:port/": "//host%3Aport/",
}


@pytest.mark.parametrize(("source", "expected"), REFERENCES.items())
def test_source_of_a_plain_event_becomes_a_uri_reference(source: str, expected: str) -> None:
    assert uri_reference(source) == expected
    assert uri_reference(expected) == expected


def test_attributes_that_cannot_be_read_spoil_nothing_around_them() -> None:
    damaged = _stored(b"{}", attributes=b'{"specversion":"1.\xff')
    assert _json(damaged)["attributes"] == {}
    assert render_cloud_event(damaged)["id"] == "1"
    json.loads(render_line(damaged))


def test_state_of_the_payload_can_be_told_apart() -> None:
    states = {payload_state(_stored(payload)) for payload in (b"{}", b'{"a":1}', None)}
    assert len(states) == 3


@pytest.mark.parametrize("text", ["0001-W01-1T00:00:00+23:59", ""])
def test_time_that_cloud_events_cannot_spell_is_left_out(text: str) -> None:
    found = _stored(b"{}")
    assert "time" in render_cloud_event(found)
    members = {name: getattr(found, name) for name in found.__struct_fields__}
    assert "time" not in render_cloud_event(StoredEvent(**{**members, "timestamp": text}))
