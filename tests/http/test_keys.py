"""What makes two events the same is a setting."""

import json
from pathlib import Path
from typing import Any

import pytest
import wire
from bodies import JSON, get, publish, spelled, stored_ids
from clouds import ONE, cloud

from aggregator.core import json_pointer, json_values
from conftest import Client, Start
from events import event


async def _statuses(client: Client, *events: dict[str, Any], **headers: str) -> list[str]:
    async with client.post("/publish", json=list(events), headers=headers) as response:
        answer = await response.json(content_type=None)
        return [result["status"] for result in answer["results"]]


async def test_key_is_topic_and_id_by_default(client: Client) -> None:
    statuses = await _statuses(client, event("1"), event("1", topic="b"), event("1"))
    assert statuses == ["stored", "stored", "duplicate"]


async def test_field_of_the_payload_may_be_the_key(start: Start) -> None:
    client = await start(key="topic, /order/id")
    events = [
        event("1", payload={"order": {"id": 7}}),
        event("2", payload={"order": {"id": 7.0}}),
        event("3", payload={"order": {"id": "7"}}),
        event("4", payload={"order": {"id": 8}}),
    ]
    assert await _statuses(client, *events) == ["stored", "duplicate", "stored", "stored"]
    assert await stored_ids(client) == ["1", "3", "4"]


@pytest.mark.parametrize(
    "payload", [{}, {"order": {}}, {"order": {"id": None}}, {"order": {"id": [1]}}, {"order": 1}]
)
async def test_event_without_its_key_is_invalid(start: Start, payload: Any) -> None:
    client = await start(key="topic,/order/id")
    async with client.post("/publish", json=event("1", payload=payload)) as response:
        assert response.status == 422
        (result,) = (await response.json(content_type=None))["results"]
    assert result["errors"][0]["pointer"] == "/payload/order/id"


@pytest.mark.parametrize("pipeline", ["validate | dedup persist", "| dedup persist"])
async def test_member_that_belongs_to_the_key_is_there(start: Start, pipeline: str) -> None:
    client = await start(key="topic,timestamp", pipeline=pipeline)
    for body, kind in ((cloud(time=None), ONE), (spelled(timestamp='""'), JSON)):
        status, answer = await publish(client, body, kind)
        assert status == 422
        (result,) = answer["results"]
        assert (result["topic"], result["event_id"]) == ("logins", "1")
        (fault,) = result["errors"]
        assert "key is made of the timestamp" in fault["detail"] or fault["pointer"] == "/timestamp"
    assert (await publish(client, cloud(), ONE))[0] == 200


async def test_header_may_be_the_key(start: Start) -> None:
    client = await start(key="topic, header:X-GitHub-Delivery")
    assert await _statuses(client, event("1"), **{"X-GitHub-Delivery": "a"}) == ["stored"]
    assert await _statuses(client, event("1"), **{"x-github-delivery": "a"}) == ["duplicate"]
    assert await _statuses(client, event("1"), **{"X-GitHub-Delivery": "b"}) == ["stored"]
    assert await _statuses(client, event("1")) == ["invalid"]


async def test_header_makes_the_same_key_in_either_encoding(start: Start) -> None:
    client = await start(key="topic,header:x")
    body = json.dumps(event("1")).encode()
    seen = []
    for value in ("Zürich".encode(), "Zürich".encode("latin-1")):
        head = wire.AS_JSON + b"x: " + value + b"\r\n" + wire.with_length(len(body))
        answer = await wire.exchange(str(client.host), int(client.port or 0), [head, body])
        seen.append(answer.told["results"][0]["status"])
    assert seen == ["stored", "duplicate"]


async def test_event_without_its_key_is_told_and_kept_under_its_name(start: Start) -> None:
    client = await start(key="topic,/n", on_invalid="quarantine")
    async with client.post("/publish", json=[event("7"), event("8")]) as response:
        (one, _) = (await response.json(content_type=None))["results"]
    assert (one["topic"], one["event_id"]) == ("logins", "7")
    found = (await get(client, "/quarantine?topic=logins"))["quarantined"]
    assert [entry["event_id"] for entry in found] == ["7", "8"]


async def test_source_may_belong_to_the_key(start: Start) -> None:
    client = await start(key="topic,event_id,source")
    events = [event("1", source="a"), event("1", source="b"), event("1", source="a")]
    assert await _statuses(client, *events) == ["stored", "stored", "duplicate"]


async def test_key_may_differ_by_topic(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[topics.orders]\nkey = "topic,/n"\n')
    client = await start(config=str(file))
    orders = [event("1", "orders", payload={"n": 1}), event("2", "orders", payload={"n": 1})]
    assert await _statuses(client, *orders) == ["stored", "duplicate"]
    assert await _statuses(client, event("1"), event("2")) == ["stored", "stored"]


async def test_topics_of_one_request_have_each_its_key(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[topics.orders]\nkey = "topic,/n"\n')
    client = await start(config=str(file))
    orders = [event(name, "orders", payload={"n": 1}) for name in "12"]
    logins = [event(name, payload={"n": 1}) for name in "12"]
    each = {"orders": ["stored", "duplicate"], "logins": ["stored", "stored"]}
    assert await _statuses(client, *orders, *logins) == each["orders"] + each["logins"]
    orders = [event(name, "orders", payload={"n": 2}) for name in "34"]
    logins = [event(name, payload={"n": 2}) for name in "34"]
    assert await _statuses(client, *logins, *orders) == each["logins"] + each["orders"]


async def test_event_of_any_key_is_found_by_topic_and_id(start: Start) -> None:
    client = await start(key="topic,/n")
    await _statuses(client, event("1", payload={"n": 1}))
    assert (await get(client, "/events/logins/1"))["payload"] == {"n": 1}


HUGE = "99999999999999999999"
EQUAL = [
    (f"1e-{HUGE}", "10e-100000000000000000000"),
    ("0", f"0.0e{HUGE}"),
    ("10", "1e1"),
    ("10", "10.0"),
    ("0", "-0.0"),
    ('"a"', '"\\u0061"'),
    ("1.50", "15e-1"),
]
UNEQUAL = [("1", '"1"'), ("1", "true"), ("18446744073709551616", "18446744073709551617")]


@pytest.mark.parametrize(("one", "other"), EQUAL + UNEQUAL)
def test_equal_values_are_equal_parts_of_a_key(one: str, other: str) -> None:
    one_, other_ = (
        json_values.scalar(f'{{"a":[{text}]}}'.encode(), ("a", "0")) for text in (one, other)
    )
    assert one_ is not None
    assert (one_ == other_) == ((one, other) in EQUAL)
    assert one_ == json_values.scalar_of(one)


@pytest.mark.parametrize("steps", ["/a/01", "/a/-", "/a/2", "/a/b", "/b", "", "/a", "/a/0/0"])
def test_pointer_to_nothing_finds_nothing(steps: str) -> None:
    assert json_values.scalar(b'{"a":[1,null]}', json_pointer.parse(steps)) is None


@pytest.mark.parametrize("text", ["a", "/~", "/~2", "#/a"])
def test_what_is_no_pointer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pointer"):
        json_pointer.parse(text)
