"""`GET /events` by fields and arrival, its links, and the forms that a request can ask for."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from bodies import PROBLEM, get, publish, spelled
from stored import cloud_event, store
from yarl import URL

from aggregator.core.identity import PayloadKind
from conftest import Client
from events import event

CLOUD_EVENTS = "application/cloudevents-batch+json"


async def _ids(client: Client, arguments: str) -> list[str]:
    async with client.get(URL(f"/events?{arguments}", encoded=True)) as response:
        assert response.status == 200, await response.text()
        return [found["event_id"] for found in (await response.json())["events"]]


PAYLOADS = {
    "number": '{"user":{"id":42},"tags":["a"]}',
    "same number": '{"user":{"id":42.0},"tags":["b","a"]}',
    "string": '{"user":{"id":"42"}}',
    "truth": '{"user":{"id":true},"a/b":"~"}',
    "other": '{"user":{"id":7}}',
}


@pytest.mark.every_store
@pytest.mark.parametrize("indexed", ["", "/user/id"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    {
        "field=/user/id&equals=42": ["number", "same number"],
        "field=/user/id&equals=4.2e1": ["number", "same number"],
        "field=/user/id&equals=%2242%22": ["string"],
        "field=/user/id&equals=true": ["truth"],
        "field=/user/id&equals=nobody": [],
        "field=/tags/0&equals=a": ["number"],
        "field=/a~1b&equals=~": ["truth"],
        "field=/user&equals=42": [],
        "field=/user/id&equals=42&order=desc&limit=1": ["same number"],
        "field=/user/id&equals=42&topic=other": [],
    }.items(),
)
async def test_events_are_found_by_a_field_of_the_payload(
    start: Any, indexed: str, arguments: str, expected: list[str]
) -> None:
    client = await start(indexed=indexed)
    for event_id, payload in PAYLOADS.items():
        await publish(client, spelled(event_id=f'"{event_id}"', payload=payload))
    assert await _ids(client, arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "name"),
    {
        "field=/a": "field",
        "equals=1": "equals",
        "field=a&equals=1": "field",
        "field=/~2&equals=1": "field",
        "field=/~~01&equals=1": "field",
        "field=/~&equals=1": "field",
        "field=/a&equals=null": "equals",
        "field=/a&equals=[1]": "equals",
        "field=/a&equals={}": "equals",
        "field=/a&field=/b&equals=1": "field",
        "received_since=noon": "received_since",
        "received_until=": "received_until",
    }.items(),
)
async def test_filter_that_makes_no_sense_is_refused_and_named(
    client: Client, arguments: str, name: str
) -> None:
    async with client.get(URL(f"/events?{arguments}", encoded=True)) as response:
        assert (response.status, response.content_type) == (400, PROBLEM)
        assert name in (await response.json(content_type=PROBLEM))["detail"]


@pytest.mark.every_store
async def test_events_are_found_by_their_arrival(client: Client) -> None:
    for event_id in ("1", "2", "3"):
        await client.post("/publish", json=event(event_id))
    times = [found["received_at"] for found in (await get(client, "/events"))["events"]]
    assert await _ids(client, f"received_since={times[1]}") == ["2", "3"]
    assert await _ids(client, f"received_until={times[1]}") == ["1"]
    assert await _ids(client, f"received_since={times[1]}&received_until={times[2]}") == ["2"]


async def test_link_leads_to_the_next_page_with_all_arguments(client: Client) -> None:
    topic = 'a&b=c "<>é%2F;,+'
    await client.post("/publish", json=[event(str(n), topic=topic) for n in range(5)])
    following, seen = f"/events?topic={quote(topic)}&limit=2", []
    while following:
        async with client.get(URL(following, encoded=True)) as response:
            page = await response.json()
            seen += [found["event_id"] for found in page["events"]]
            link = response.headers.get("Link", "")
            assert bool(link) == (page["next"] is not None)
            following = link and "/events" + link.removeprefix("<").removesuffix('>; rel="next"')
    assert seen == ["0", "1", "2", "3", "4"]


ACCEPTED = {
    "": "application/json",
    "*/*": "application/json",
    "application/*": "application/json",
    "text/html, */*;q=0.1": "application/json",
    "application/x-ndjson": "application/x-ndjson",
    "application/json;q=0.5, application/x-ndjson": "application/x-ndjson",
    "application/json, application/x-ndjson": "application/json",
    "application/*;q=0.5, application/json;q=0": "application/x-ndjson",
    "APPLICATION/JSON; charset=utf-8": "application/json",
    f"{CLOUD_EVENTS}, application/json;q=0.9": CLOUD_EVENTS,
    "nonsense": "application/json",
}


@pytest.mark.parametrize(("accepted", "expected"), ACCEPTED.items())
async def test_answer_has_the_form_that_is_liked_best(
    client: Client, accepted: str, expected: str
) -> None:
    headers = {"Accept": accepted} if accepted else {}
    async with client.get("/events", headers=headers, skip_auto_headers=["Accept"]) as response:
        assert (response.status, response.content_type) == (200, expected)
        assert response.headers["Vary"] == "Accept"


@pytest.mark.parametrize("path", ["/events", "/events/logins/1"])
@pytest.mark.parametrize("accepted", ["text/html", "application/json;q=0", "*/*;q=0.000"])
async def test_form_that_there_is_not_is_refused(client: Client, path: str, accepted: str) -> None:
    await client.post("/publish", json=event())
    async with client.get(path, headers={"Accept": accepted}) as response:
        assert (response.status, response.content_type) == (406, PROBLEM)
        assert response.headers["Vary"] == "Accept"


async def test_page_can_be_a_batch_of_cloud_events(client: Client) -> None:
    await client.post("/publish", json=event("1", topic="plain", source="a shop"))
    await store(
        client,
        cloud_event("2"),
        cloud_event("3", payload_kind=PayloadKind.BYTES, payload=b"\xff\x00"),
    )
    headers = {"Accept": CLOUD_EVENTS}
    async with client.get("/events?limit=2", headers=headers) as response:
        assert response.headers["Link"] == '<?limit=2&after=2>; rel="next"'
        batch = await response.json(content_type=CLOUD_EVENTS)
    assert batch[0] == {
        "specversion": "1.0",
        "type": "plain",
        "id": "1",
        "source": "a%20shop",
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"user": "ada"},
    }
    assert batch[1] == {
        "specversion": "1.0",
        "type": "readings",
        "id": "2",
        "source": "/sensors/1",
        "subject": "kitchen",
        "data": {"t": 1},
    }
    async with client.get("/events?after=2", headers=headers) as response:
        assert "Link" not in response.headers
        (third,) = await response.json(content_type=CLOUD_EVENTS)
    assert third["data_base64"] == "/wA="
    assert "data" not in third


@pytest.mark.every_store
async def test_cloud_events_are_read_with_what_was_sent_with_them(client: Client) -> None:
    await store(
        client,
        cloud_event("1", payload_kind=PayloadKind.BYTES, payload=b"\xff\x00"),
        cloud_event("2", payload_kind=PayloadKind.NOTHING, payload=b""),
        cloud_event("3", payload=b'"text"'),
    )
    one, two, three = (await get(client, "/events"))["events"]
    assert one["attributes"] == {"specversion": "1.0", "subject": "kitchen"}
    assert (one["payload_base64"], "payload" in one, one["timestamp"]) == ("/wA=", False, None)
    assert not {"payload", "payload_base64", "emptied", "damaged"} & two.keys()
    assert three["payload"] == "text"


async def test_cloud_event_is_read_as_it_was_sent(client: Client) -> None:
    sent = {
        "specversion": "1.0",
        "type": "com.example.read",
        "id": "A-1",
        "source": "/sensors/1",
        "time": "2026-01-31T12:00:00.5+01:00",
        "subject": "kitchen",
        "myextension": 5,
        "datacontenttype": "application/json",
        "data": {"n": [1, None, True]},
    }
    form = "application/cloudevents+json"
    await publish(client, json.dumps(sent).encode(), form)
    headers = {"Accept": form}
    async with client.get("/events/com.example.read/A-1", headers=headers) as response:
        assert (response.status, await response.json(content_type=form)) == (200, sent)
    async with client.get("/events", headers={"Accept": CLOUD_EVENTS}) as response:
        assert await response.json(content_type=CLOUD_EVENTS) == [sent]
