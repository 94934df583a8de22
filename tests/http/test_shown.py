"""What is no longer there, or no longer as it was, is said in every form."""

import json
from typing import Any

import pytest

from aggregator.content import Form, digest_of
from aggregator.store import StoredEvent
from aggregator.web import shown


def _stored(payload: bytes | None, was: bytes = b"{}", **members: Any) -> StoredEvent:
    form = members.get("form", Form.JSON)
    digest = digest_of("tests", was, form)
    return StoredEvent(
        1, 0, "logins", "1", "2026-01-31T12:00:00Z", "tests", payload, b"", digest, **members
    )


CLOUD = {"attributes": b'{"specversion":"1.0"}'}


@pytest.mark.parametrize("members", [{}, CLOUD, {**CLOUD, "form": Form.BYTES}])
def test_payload_that_is_kept_no_more_is_said_to_be(members: dict[str, Any]) -> None:
    emptied = _stored(None, **members)
    told = shown.as_event(emptied)
    assert (told["payload"], "kept no more" in told["emptied"]) == (None, True)
    cloud = shown.as_cloud_event(emptied)
    assert "kept no more" in cloud["emptied"]
    assert not {"data", "data_base64", "damaged"} & cloud.keys()


@pytest.mark.parametrize("members", [{}, CLOUD, {**CLOUD, "form": Form.BYTES}])
def test_damaged_payload_is_not_shown_but_said_to_be_damaged(members: dict[str, Any]) -> None:
    damaged = _stored(b"{\xff", **members)
    told = shown.as_event(damaged)
    assert (told["payload"], "does not match" in told["damaged"]) == (None, True)
    cloud = shown.as_cloud_event(damaged)
    assert "does not match" in cloud["damaged"]
    assert not {"data", "data_base64", "emptied"} & cloud.keys()
    json.loads(shown.as_line(damaged))


def test_attributes_that_cannot_be_read_spoil_nothing_around_them() -> None:
    damaged = _stored(b"{}", attributes=b'{"specversion":"1.\xff')
    assert shown.as_event(damaged)["attributes"] == {}
    assert shown.as_cloud_event(damaged)["id"] == "1"
    json.loads(shown.as_line(damaged))


def test_state_of_the_payload_can_be_told_apart() -> None:
    states = {shown.state(_stored(payload)) for payload in (b"{}", b'{"a":1}', None)}
    assert len(states) == 3


@pytest.mark.parametrize("text", ["0001-W01-1T00:00:00+23:59", ""])
def test_time_that_cloud_events_cannot_spell_is_left_out(text: str) -> None:
    found = _stored(b"{}")
    assert "time" in shown.as_cloud_event(found)
    members = {name: getattr(found, name) for name in found.__struct_fields__}
    assert "time" not in shown.as_cloud_event(StoredEvent(**{**members, "timestamp": text}))
