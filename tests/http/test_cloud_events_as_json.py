"""A CloudEvent that claims to be JSON and no more is the CloudEvent that it is."""

import json
from typing import Any

import pytest
from bodies import JSON, NDJSON, array, get, good, publish, spelled
from clouds import BATCH, ONE, cloud, kept_ids

from conftest import Client, Start


@pytest.mark.parametrize("kind", [JSON, NDJSON])
async def test_cloud_event_is_the_same_as_in_its_own_type(client: Client, kind: str) -> None:
    event = cloud(data='{"a": 1}', topic='"an extension"', subject='"s"')
    assert (await publish(client, event, kind))[0] == 200
    _, answer = await publish(client, event, ONE)
    assert answer["duplicates"] == 1
    async with client.get("/events", headers={"Accept": BATCH}) as response:
        (shown,) = await response.json(content_type=None)
    assert {name: shown[name] for name in json.loads(event)} == json.loads(event)


async def test_event_as_eventbridge_and_others_send_it_is_taken(client: Client) -> None:
    event = {
        "specversion": "1.0",
        "id": "b7b1",
        "source": "aws.partner/shop",
        "type": "order.created",
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"event_id": "inner", "topic": "inner"},
    }
    status, answer = await publish(client, json.dumps(event))
    assert (status, answer["results"][0]["topic"]) == (200, "order.created")


@pytest.mark.parametrize("kind", [JSON, NDJSON])
async def test_plain_events_and_cloud_events_come_together(client: Client, kind: str) -> None:
    events = [good("a"), cloud(id='"b"'), good("c"), cloud(id='"d"', type="5"), cloud(id='"e"')]
    status, answer = await publish(
        client, array(events) if kind == JSON else b"\n".join(events), kind
    )
    assert status == 207
    assert [result["event_id"] for result in answer["results"]] == list("abcde")
    assert [fault["pointer"] for fault in answer["results"][3]["errors"]] == ["/type"]
    assert await kept_ids(client) == list("abce")


PLAIN = {
    "specversion inside of a payload": spelled(payload=cloud()),
    "specversion in a string": spelled(payload='{"a": "\\"specversion\\":\\"1.0\\",\\""}'),
}


@pytest.mark.parametrize("raw", PLAIN.values(), ids=PLAIN)
async def test_plain_event_is_never_taken_for_a_cloud_event(client: Client, raw: bytes) -> None:
    assert (await publish(client, raw))[0] == 200
    (event,) = (await get(client, "/events"))["events"]
    assert "attributes" not in event


async def _pointers(client: Client, raw: bytes) -> set[str]:
    status, answer = await publish(client, raw)
    assert status == 422
    return {fault["pointer"] for fault in answer["results"][0]["errors"]}


BAD: dict[str, tuple[bytes, set[str]]] = {
    "plain, with a specversion": (spelled(specversion='"1.0"'), {"/specversion"}),
    "plain, with a specversion and no topic": (
        spelled(specversion='"1.0"', topic=None),
        {"/specversion", "/topic"},
    ),
    "without an id": (cloud(id=None), {"/id"}),
    "of another version": (cloud(specversion='"0.3"'), {"/specversion"}),
    "without a specversion": (
        cloud(specversion=None, time=None),
        {"/topic", "/event_id", "/timestamp", "/payload", "/type", "/id"},
    ),
    "with data that is not taken": (cloud(data="NaN"), {"/data"}),
}


@pytest.mark.parametrize(("raw", "pointers"), BAD.values(), ids=BAD)
async def test_faults_are_those_of_the_form_that_an_event_has(
    client: Client, raw: bytes, pointers: set[str]
) -> None:
    assert await _pointers(client, raw) == pointers


async def test_bad_cloud_event_is_kept_in_quarantine_as_one(start: Start) -> None:
    client = await start(on_invalid="quarantine")
    await publish(client, cloud(time='"noon"'))
    await publish(client, cloud(data="NaN"))
    entries: list[dict[str, Any]] = (await get(client, "/quarantine?topic=logins"))["quarantined"]
    assert [entry["format"] for entry in entries] == ["cloudevents", "cloudevents"]
    async with client.post("/quarantine/1/release") as response:
        answer = await response.json(content_type=None)
    assert [fault["pointer"] for fault in answer["results"][0]["errors"]] == ["/time"]


async def test_cloud_events_keep_the_key_of_cloud_events(client: Client) -> None:
    events = [cloud(source='"/a"'), cloud(source='"/b"')]
    _, answer = await publish(client, array(events))
    assert answer["stored"] == 2


@pytest.mark.parametrize("kind", [ONE, BATCH])
async def test_types_of_cloud_events_hold_no_plain_event(client: Client, kind: str) -> None:
    status, answer = await publish(client, good("1") if kind == ONE else array([good("1")]), kind)
    assert status == 422
    assert "/specversion" in {fault["pointer"] for fault in answer["results"][0]["errors"]}
