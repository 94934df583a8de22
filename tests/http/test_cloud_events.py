"""CloudEvents are taken one by one and in batches, and what they say is kept as it came."""

import gzip
import json
import zlib

import pytest
from bodies import JSON, good, publish, spelled
from clouds import BATCH, ONE, batch, cloud, kept, result_of

from aggregator.core.identity import PayloadKind
from conftest import Client, Start


async def test_cloud_event_is_stored_with_what_it_says(client: Client) -> None:
    event = cloud(
        subject='"a \\u20ac"', flag="true", number="-2147483648", data='{"b": 1.50, "a": [ ]}'
    )
    status, answer = await publish(client, event, ONE)
    assert status == 200
    assert answer["results"] == [
        {"index": 0, "topic": "logins", "event_id": "1", "status": "stored", "seq": 1}
    ]
    found = await kept(client)
    assert (found.source, found.timestamp) == ("/tests", "2026-01-31T12:00:00Z")
    assert (found.payload_kind, found.payload) == (PayloadKind.JSON, b'{"b": 1.50, "a": [ ]}')
    assert found.attributes == (
        b'{"specversion":"1.0","subject":"a \\u20ac","flag":true,"number":-2147483648}'
    )


DATA = {
    "object": ("data", b'{"a": 1}', PayloadKind.JSON, b'{"a": 1}'),
    "array": ("data", b"[1, 2]", PayloadKind.JSON, b"[1, 2]"),
    "string": ("data", b'"text"', PayloadKind.JSON, b'"text"'),
    "number": ("data", b"1e2", PayloadKind.JSON, b"1e2"),
    "null": ("data", b"null", PayloadKind.JSON, b"null"),
    "bytes": ("data_base64", b'"AP8="', PayloadKind.BYTES, b"\0\xff"),
    "no bytes": ("data_base64", b'""', PayloadKind.BYTES, b""),
    "bytes that are null": ("data_base64", b"null", PayloadKind.NOTHING, b""),
}


@pytest.mark.parametrize(("name", "text", "form", "payload"), DATA.values(), ids=DATA)
async def test_data_is_any_json_or_bytes(
    client: Client, name: str, text: bytes, form: PayloadKind, payload: bytes
) -> None:
    assert (await result_of(client, cloud(**{name: text})))["status"] == "stored"
    found = await kept(client)
    assert (found.payload_kind, found.payload or b"") == (form, payload)


async def test_time_data_and_what_is_null_may_be_missing(client: Client) -> None:
    event = cloud(time=None, subject="null", dataschema="null", extension="null")
    assert (await result_of(client, event))["status"] == "stored"
    found = await kept(client)
    assert (found.payload_kind, found.payload or b"", found.timestamp or "") == (
        PayloadKind.NOTHING,
        b"",
        "",
    )
    assert found.attributes == b'{"specversion":"1.0"}'
    assert (await result_of(client, cloud(id='"2"', time="null")))["status"] == "stored"


async def test_data_that_is_null_beside_bytes_is_as_good_as_absent(client: Client) -> None:
    event = cloud(data="null", data_base64='"AP8="')
    assert (await result_of(client, event))["status"] == "stored"
    assert (await kept(client)).payload == b"\0\xff"


async def test_source_belongs_to_the_key_of_a_cloud_event(client: Client) -> None:
    events = [cloud(), cloud(source='"/others"'), cloud()]
    _, answer = await publish(client, batch(events), BATCH)
    assert [result["status"] for result in answer["results"]] == ["stored", "stored", "duplicate"]


async def test_cloud_event_is_another_event_than_a_plain_one(client: Client) -> None:
    await publish(client, spelled(source='"/tests"', payload="{}"))
    assert (await result_of(client, cloud(data="{}")))["status"] == "stored"


async def test_same_key_with_other_data_is_a_conflict(client: Client) -> None:
    for first, second in (('"data":{"a":1}', '"data":{"a":2}'), ('"data":1', '"data_base64":""')):
        event_id = json.dumps(first)
        await publish(client, cloud(id=event_id)[:-1] + f",{first}}}".encode(), ONE)
        result = await result_of(client, cloud(id=event_id)[:-1] + f",{second}}}".encode())
        assert result["status"] == "conflict", second
    assert (await result_of(client, cloud(id='"3"')))["status"] == "stored"
    assert (await result_of(client, cloud(id='"3"', data="null")))["status"] == "conflict"


async def test_other_spelling_of_data_and_other_attributes_make_a_duplicate(
    client: Client,
) -> None:
    await publish(client, cloud(data='{"a": 1, "b": "\\u0041"}', subject='"x"'), ONE)
    again = cloud(data='{"b":"A","a":1.0}', time=None, subject='"y"', traceparent='"00"')
    assert (await result_of(client, again))["status"] == "duplicate"


async def test_key_may_be_made_of_places_in_the_data(start: Start) -> None:
    client = await start(key="topic, /order/id")
    first = await result_of(client, cloud(data='{"order":{"id":7}}'))
    again = await result_of(client, cloud(id='"2"', data='{"order":{"id":7}}'))
    other = await result_of(client, cloud(id='"3"', data='{"order":{"id":8}}'))
    assert [first["status"], again["status"], other["status"]] == ["stored", "duplicate", "stored"]
    for member in ({"data": "{}"}, {"data_base64": '"AP8="'}, {"data": None}):
        result = await result_of(client, cloud(id='"4"', **member))
        assert result["errors"][0]["pointer"] == "/data/order/id"


async def test_missing_header_of_a_key_is_told_of_the_event(start: Start) -> None:
    client = await start(key="topic, header:X-Delivery")
    for event, kind in ((cloud(), ONE), (good("1"), JSON)):
        status, answer = await publish(client, event, kind)
        assert status == 422
        assert "x-delivery" in answer["results"][0]["errors"][0]["detail"]
        assert (await publish(client, event, kind, **{"X-Delivery": "9"}))[0] == 200


async def test_batch_is_answered_event_by_event(client: Client) -> None:
    events = [cloud(), cloud(id=None), b"7", cloud(id='"2"', data='{"a": NaN}'), cloud(id='"3"')]
    status, answer = await publish(client, batch(events), BATCH)
    assert status == 207
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["stored", "invalid", "invalid", "invalid", "stored"]
    pointers = [result["errors"][0]["pointer"] for result in answer["results"][1:4]]
    assert pointers == ["/id", "", "/data/a"]


async def test_empty_batch_is_taken_for_what_it_is(client: Client) -> None:
    status, answer = await publish(client, b" [ ] ", BATCH)
    assert status == 200
    assert (answer["received"], answer["results"]) == (0, [])


@pytest.mark.parametrize(
    ("body", "kind"),
    [(batch([cloud()]), ONE), (cloud(), BATCH), (b"", ONE), (b"", BATCH), (b"{", ONE),
     (b"[", BATCH)],
)  # fmt: skip
async def test_body_that_is_not_of_its_mode_is_a_bad_request(
    client: Client, body: bytes, kind: str
) -> None:
    assert (await publish(client, body, kind))[0] == 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_cloud_events_are_read(client: Client, encoding: str) -> None:
    compress = zlib.compress if encoding == "deflate" else gzip.compress
    headers = {"Content-Encoding": encoding}
    assert (await publish(client, compress(cloud()), ONE, **headers))[0] == 200
    assert (await publish(client, compress(batch([cloud(id='"2"')])), BATCH, **headers))[0] == 200


@pytest.mark.parametrize(
    "kind",
    ["application/cloudevents+xml", "application/cloudevents+avro", "application/cloudevents",
     "application/cloudevents-batch+protobuf", f"{ONE}; charset=utf-16"],
)  # fmt: skip
async def test_other_format_of_cloud_events_is_not_read(client: Client, kind: str) -> None:
    headers = {"Content-Type": kind, "ce-id": "1"}
    async with client.post("/publish", data=cloud(), headers=headers) as response:
        assert response.status == 415
        assert {ONE, BATCH, JSON} <= set(response.headers["Accept-Post"].split(", "))


async def test_charset_may_be_named(client: Client) -> None:
    assert (await publish(client, cloud(), f"{ONE.upper()}; charset=UTF-8"))[0] == 200
