"""One event with a fault is refused with the place of it, and harms no event beside it."""

import json
from itertools import count
from typing import Any

import pytest
from bad_events import BAD, UNREADABLE, Bad
from bodies import (
    JSON,
    NDJSON,
    array,
    get,
    good,
    ids_after,
    newest,
    publish,
    spelled,
    stored_ids,
)

from conftest import Client, in_shared_app

_numbers = count()

each_bad = pytest.mark.parametrize("bad", BAD.values(), ids=BAD)


def _tells(result: dict[str, Any], bad: Bad) -> None:
    assert result["status"] == "invalid"
    faults = [fault for fault in result["errors"] if fault["pointer"] == bad.pointer]
    assert faults, result["errors"]
    assert any(words in faults[0]["detail"] for words in bad.detail.split("|"))
    assert len(faults[0]["detail"]) < 1000


@in_shared_app
@each_bad
async def test_bad_event_alone_is_refused_and_told_why(shared: Client, bad: Bad) -> None:
    before = await newest(shared)
    status, answer = await publish(shared, bad.raw)
    if bad in UNREADABLE.values():
        assert status == 400
        assert bad.detail in answer["detail"]
    elif bad.pointer:
        assert status == 422
        assert (answer["received"], answer["invalid"]) == (1, 1)
        _tells(answer["results"][0], bad)
    assert status in {400, 422}
    assert await newest(shared) == before


@in_shared_app
@each_bad
@pytest.mark.parametrize("kind", [JSON, NDJSON])
async def test_neighbours_of_a_bad_event_are_stored(shared: Client, bad: Bad, kind: str) -> None:
    before, seq = await get(shared, "/stats"), await newest(shared)
    ids = [f"before {next(_numbers)}", f"after {next(_numbers)}"]
    events = [good(ids[0]), bad.raw, good(ids[1])]
    body = array(events) if kind == JSON else b"\r\n".join(events)
    status, answer = await publish(shared, body, kind)
    assert status == 207
    assert (answer["received"], answer["stored"], answer["invalid"]) == (3, 2, 1)
    assert [result["status"] for result in answer["results"]] == ["stored", "invalid", "stored"]
    _tells(answer["results"][1], bad)
    assert await ids_after(shared, seq) == ids
    stats = await get(shared, "/stats")
    counted = [
        stats[name] - before[name] for name in ("received_total", "unique_processed", "invalid")
    ]
    assert counted == [3, 2, 1]


async def test_array_of_nothing_but_bad_events_is_a_problem_for_each(client: Client) -> None:
    status, answer = await publish(client, array(bad.raw for bad in BAD.values()))
    assert status == 422
    assert answer["invalid"] == len(BAD)
    for result, bad in zip(answer["results"], BAD.values(), strict=True):
        _tells(result, bad)
    assert await stored_ids(client) == []


async def test_every_fault_of_an_event_is_told(client: Client) -> None:
    body = spelled(topic="1", event_id='""', timestamp='"now"', source=None, colour="1")
    _, answer = await publish(client, body)
    pointers = {fault["pointer"] for fault in answer["results"][0]["errors"]}
    assert pointers == {"/topic", "/event_id", "/timestamp", "/source", "/colour"}


async def test_faults_are_told_in_the_same_order_at_every_start(client: Client) -> None:
    body = spelled(topic="1", **dict.fromkeys("hgfedcbi", "1"))
    _, answer = await publish(client, body)
    pointers = [fault["pointer"] for fault in answer["results"][0]["errors"]]
    assert pointers == ["/topic", *(f"/{name}" for name in "bcdefghi")]


@pytest.mark.parametrize(
    "broken",
    ['{"topic":"never ends', '{"payload":{"a":[1,2', '{"a":"' + '\\"' * 500, "{]", "}"],
    ids=lambda text: text[:20],
)
async def test_line_that_never_ends_is_refused_alone(client: Client, broken: str) -> None:
    status, answer = await publish(
        client, b"\n".join([good("a"), broken.encode(), good("b")]), NDJSON
    )
    assert status == 207
    assert "not JSON" in answer["results"][1]["errors"][0]["detail"]
    assert await stored_ids(client) == ["a", "b"]


TAKEN = {
    "escaped backslash before u0000": rb'{"a": "\\u0000"}',
    "escaped pair": rb'{"a": "\ud83d\ude00"}',
    "30 digits": b'{"a": 123456789012345678901234567891}',
    "300 digits": b'{"a": ' + b"9" * 300 + b"}",
    "1e308": b'{"a": 1e308}',
    "1e-400": b'{"a": 1e-400}',
    "100 levels": b'{"a": ' + b"[" * 98 + b"]" * 98 + b"}",
    "many arrays, not nested": b'{"a": [' + b"[]," * 5000 + b"[]]}",
    "brackets in a string": b'{"a": "' + b"[{" * 5000 + b'"}',
    "backslashes": b'{"a": "' + b"\\\\" * 100_000 + b'"}',
    "U+2028": '{"a": "\u2028"}'.encode(),
    "noncharacter": '{"a": "\uffff"}'.encode(),
    "delete": b'{"a": "\x7f"}',
}


@pytest.mark.parametrize("payload", TAKEN.values(), ids=TAKEN)
async def test_odd_but_good_payload_is_kept_as_it_came(client: Client, payload: bytes) -> None:
    status, _ = await publish(client, spelled(payload=payload))
    assert status == 200
    async with client.get("/events/logins/1") as response:
        assert b'"payload":' + payload in await response.read()


async def test_number_too_large_for_a_double_is_refused_however_it_is_spelled(
    client: Client,
) -> None:
    for number in ("1e400", "9" * 400, "9" * 5000, "1" + "0" * 500 + ".5"):
        status, answer = await publish(client, spelled(payload=f'{{"a": {number}}}'))
        assert status == 422, number[:10]
        assert answer["results"][0]["errors"][0]["pointer"] == "/payload/a"


async def test_member_given_twice_is_refused(client: Client) -> None:
    for again in ({"topic": "other"}, {"payload": {"b": 1}}):
        twice = spelled()[:-1] + b"," + json.dumps(again).encode()[1:]
        status, _ = await publish(client, twice)
        assert status in {400, 422}
    assert await stored_ids(client) == []
