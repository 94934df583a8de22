"""A result and quarantine name the event that is refused, wherever its names can be read."""

import json

import pytest
from bad_events import UNREADABLE, UNREPRESENTABLE
from bodies import JSON, NDJSON, array, get, good, publish, spelled
from clouds import BATCH, batch, cloud

from conftest import Client, Start
from events import event

_LONG = 500_000


@pytest.fixture
async def keeping(start: Start) -> Client:
    """The app that keeps invalid events."""
    return await start(on_invalid="quarantine")


async def _named(client: Client, body: bytes, kind: str = JSON) -> tuple[str | None, str | None]:
    """What the result of the second event is named by, and the same in quarantine."""
    _, answer = await publish(client, body, kind)
    result = answer["results"][1]
    (entry,) = (await get(client, "/quarantine"))["quarantined"]
    assert result["status"] == entry["reason"] == "invalid"
    names = result.get("topic"), result.get("event_id")
    assert names == (entry["topic"], entry["event_id"])
    found = await get(client, f"/quarantine?topic={names[0] or ''}")
    assert [one["id"] for one in found["quarantined"]] == [entry["id"]]
    return names


FINE = {
    name: bad.raw
    for name, bad in {**UNREADABLE, **UNREPRESENTABLE}.items()
    if b'"topic"' in bad.raw and name not in {"surrogate in the topic", "U+0000 in the id"}
}


@pytest.mark.parametrize("raw", FINE.values(), ids=FINE)
async def test_event_whose_payload_is_not_taken_is_named(keeping: Client, raw: bytes) -> None:
    assert await _named(keeping, good("0") + b"\n" + raw, NDJSON) == ("logins", "1")


@pytest.mark.parametrize("raw", [FINE["NaN"], FINE["high surrogate"], FINE["comma too many"]])
async def test_event_of_an_array_is_named(keeping: Client, raw: bytes) -> None:
    assert await _named(keeping, array([good("0"), raw])) == ("logins", "1")


OTHERS = {
    "unknown member": spelled(colour="1"),
    "payload that is no object": spelled(payload="[1]"),
    "payload given twice": spelled()[:-1] + b',"payload":{}}',
    "line that never ends": spelled(payload='{"a":["')[:-1],
    "names that are escaped": spelled(topic=None, payload="[]")[:-1]
    + rb',"t\u006fpic":"login\u0073"}',
}


@pytest.mark.parametrize("raw", OTHERS.values(), ids=OTHERS)
async def test_malformed_event_is_named(keeping: Client, raw: bytes) -> None:
    assert await _named(keeping, good("0") + b"\n" + raw, NDJSON) == ("logins", "1")


@pytest.mark.parametrize("kind", [JSON, NDJSON])
async def test_event_that_is_too_long_is_named(start: Start, kind: str) -> None:
    client = await start(on_invalid="quarantine", max_event=300)
    long = spelled(payload='{"a":"' + "x" * 300 + '"}')
    body = array([good("0"), long]) if kind == JSON else good("0") + b"\n" + long
    assert await _named(client, body, kind) == ("logins", "1")


@pytest.mark.parametrize("data", ['"\\ud83d"', '"\\u0000"', "NaN", "1e400"])
async def test_cloud_event_is_named(keeping: Client, data: str) -> None:
    body = batch([cloud(id='"0"'), cloud(data=data)])
    assert await _named(keeping, body, BATCH) == ("logins", "1")


@pytest.mark.parametrize(
    "raw",
    [
        spelled(topic=r'"\ud800"'),
        spelled(topic=r'"\u0000"'),
        spelled(topic="5"),
        spelled()[:-1] + b',"topic":"other"}',
        spelled(topic=None, payload='{"topic":"inner"}'),
        spelled(topic=None, payload='"\\"topic\\":\\"inner\\","'),
    ],
    ids=["surrogate", "U+0000", "number", "twice", "in the payload", "in a string"],
)
async def test_topic_that_cannot_be_read_is_left_out(keeping: Client, raw: bytes) -> None:
    _, answer = await publish(keeping, good("0") + b"\n" + raw, NDJSON)
    assert "topic" not in answer["results"][1]
    assert answer["results"][1]["event_id"] == "1"
    (entry,) = (await get(keeping, "/quarantine"))["quarantined"]
    assert (entry["topic"], entry["event_id"]) == (None, "1")


@pytest.mark.parametrize("name", ["topic", "event_id", "source", "timestamp", "x" * _LONG])
@pytest.mark.parametrize("is_malformed", [False, True])
async def test_answer_does_not_repeat_what_is_too_long(
    keeping: Client, name: str, is_malformed: bool
) -> None:
    bad = event(**{name: "y" * _LONG}, **({"payload": 5} if is_malformed else {}))
    for body in (json.dumps(bad), json.dumps([event(), bad])):
        _, answer = await publish(keeping, body)
        assert len(json.dumps(answer)) < 3_000
        for shown in (answer["results"][-1]["topic"], answer["results"][-1]["event_id"]):
            assert len(shown) <= 256


async def test_names_that_are_cut_say_so(keeping: Client) -> None:
    await publish(keeping, json.dumps(event("i" * 256, "t" * 256)))
    (entry,) = (await get(keeping, "/quarantine"))["quarantined"]
    assert (entry["topic"], entry["event_id"]) == ("t" * 255 + "…", "i" * 255 + "…")
    _, answer = await publish(keeping, json.dumps(event("i" * 255, "t" * 255)))
    result = answer["results"][0]
    assert (result["topic"], result["event_id"]) == ("t" * 255, "i" * 255)
