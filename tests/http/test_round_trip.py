"""What was accepted comes back as it was sent: the payload byte for byte, the names exactly."""

import json
from itertools import count
from urllib.parse import quote

import pytest
from bodies import NDJSON, array, get, publish, spelled
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from conftest import Client
from spellings import objects

_often = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_ids = count(1)

_printable = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
_awkward = st.sampled_from("/%.{}+ ?#&=;:~\\\"'<>|\U0001f600\u00e9\u0301")
names = st.text(_awkward, min_size=1, max_size=8) | st.text(_printable, min_size=1, max_size=40)


async def _read(client: Client, topic: str, event_id: str) -> bytes:
    path = f"/events/{quote(topic, safe='')}/{quote(event_id, safe='')}"
    # Past the client's own idea of what a path should look like: it resolves dots.
    url = URL(f"http://{client.host}:{client.port}{path}", encoded=True)
    async with client.session.get(url) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def _read_page(client: Client, after: int) -> bytes:
    async with client.get(f"/events?after={after}") as response:
        return await response.read()


@_often
@given(payloads=st.lists(objects, min_size=1, max_size=5))
async def test_payload_comes_back_byte_for_byte(client: Client, payloads: list[str]) -> None:
    ids = [str(next(_ids)) for _ in payloads]
    pairs = list(zip(ids, (payload.encode() for payload in payloads), strict=True))
    body = array(spelled(event_id=f'"{id_}"', payload=payload) for id_, payload in pairs)
    status, answer = await publish(client, body)
    assert status == 200, answer
    page = await _read_page(client, answer["results"][0]["seq"] - 1)
    at = 0
    for id_, payload in pairs:
        kept = b'"payload":%s}' % payload
        assert (await _read(client, "logins", id_)).endswith(kept)
        at = page.index(kept, at) + len(kept)
    again = await publish(client, body)
    assert again[1]["duplicates"] == len(pairs)


@_often
@given(payload=objects.filter(lambda text: not {"\r", "\n"} & set(text)))
async def test_payload_of_a_line_comes_back_byte_for_byte(client: Client, payload: str) -> None:
    event_id = str(next(_ids))
    body = spelled(event_id=f'"{event_id}"', payload=payload)
    status, answer = await publish(client, body, NDJSON)
    assert status == 200, answer
    assert (await _read(client, "logins", event_id)).endswith(b'"payload":%s}' % payload.encode())


@pytest.mark.every_store
@_often
@given(topic=names, event_id=names, source=names)
@example("..", ".", "s")
@example("a/b", "%2F", "s")
@example("{topic}", "}", "s")
@example("100%25", "a b+c", "s")
async def test_names_come_back_exactly(
    client: Client, topic: str, event_id: str, source: str
) -> None:
    sent = {"topic": topic, "event_id": event_id, "source": source}
    body = spelled(**{name: json.dumps(text) for name, text in sent.items()})
    status, answer = await publish(client, body)
    assert status == 200, answer
    result = answer["results"][0]
    assert (result["topic"], result["event_id"]) == (topic, event_id)
    if result["status"] != "stored":
        return  # drawn before, and looked at then
    found = json.loads(await _read(client, topic, event_id))
    assert {name: found[name] for name in sent} == sent
    arguments = f"topic={quote(topic, safe='')}&source={quote(source, safe='')}"
    url = URL(f"http://{client.host}:{client.port}/events?{arguments}&order=desc", encoded=True)
    async with client.session.get(url) as response:
        newest = (await response.json())["events"][0]
    assert {name: newest[name] for name in sent} == sent
    assert topic in (await get(client, "/stats"))["processed_topics"]


@pytest.mark.every_store
@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00.123456789Z",
        "2026-01-31 12:00:00+05:30",
        "20260131T120000Z",
        "2026-W05-6T12:00:00,5-08:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "1969-12-31T23:59:59.999999Z",
    ],
)
async def test_timestamp_comes_back_as_it_was_spelled(client: Client, text: str) -> None:
    status, answer = await publish(client, spelled(timestamp=json.dumps(text)))
    assert status == 200, answer
    assert (await get(client, "/events/logins/1"))["timestamp"] == text
    assert len((await get(client, "/events?until=9999-12-31T23:59:59-23:59"))["events"]) <= 1
