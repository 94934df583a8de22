"""A body that cannot be taken as a whole is a problem of the request, and nothing of it is kept."""

import asyncio
import gzip
import zlib
from collections.abc import Callable
from io import BytesIO

import pytest
from bodies import JSON, NDJSON, PROBLEM, array, get, good, publish, spelled, stored_ids
from clouds import ONE, cloud
from wire import AS_JSON, CHUNKED, PUBLISH, chunked, exchange, give_up, with_length

from conftest import Client, Start

MEBI = 1024 * 1024
_LINES = good("1") + b"\n" + good("2") + b"\n"


async def _is_untouched(client: Client) -> None:
    assert await stored_ids(client) == []
    assert (await get(client, "/stats"))["received_total"] == 0


BROKEN = {
    "empty": b"",
    "blank": b" \r\n\t",
    "byte order mark only": b"\xef\xbb\xbf",
    "empty array": b"[]",
    "empty array with blanks": b"[ \n ]",
    "array that does not end": b"[" + good("1"),
    "array with more behind it": array([good("1")]) + b"x",
    "two arrays": array([good("1")]) * 2,
    "string that never ends": b"[" + good("1") + b',{"topic":"log]',
    "closing bracket": b"]",
    "UTF-16": array([good("1")]).decode().encode("utf-16"),
    "UTF-32": good("1").decode().encode("utf-32"),
    "form": b"topic=logins&event_id=1",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_body_that_is_no_event_and_no_array_is_a_bad_request(
    client: Client, body: bytes
) -> None:
    status, answer = await publish(client, body)
    assert status == 400
    assert answer["detail"].startswith(("The body is", "The array is"))
    await _is_untouched(client)


@pytest.mark.parametrize("body", [b"", b"\n\r\n \n"], ids=["empty", "blank lines"])
async def test_no_line_at_all_is_a_bad_request(client: Client, body: bytes) -> None:
    assert (await publish(client, body, NDJSON))[0] == 400
    await _is_untouched(client)


HINTS = {
    "lines": (_LINES, JSON, "application/x-ndjson"),
    "lines that are long together": (_LINES * 6_000, JSON, "application/x-ndjson"),
    "lines, of which one is bad": (_LINES + b'{"a":\n', JSON, "application/x-ndjson"),
    "events in a row": (good("1") + good("2"), JSON, "array"),
    "CloudEvents": (cloud() + b"\n" + cloud(), ONE, "application/cloudevents-batch+json"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "hint"), HINTS.values(), ids=HINTS)
async def test_several_events_where_one_should_be_are_told_their_type(
    client: Client, body: bytes, kind: str, hint: str
) -> None:
    status, answer = await publish(client, BytesIO(body), kind)
    assert status in {400, 413}
    assert hint in answer["detail"]
    await _is_untouched(client)


@pytest.mark.parametrize("body", [b'{"a": nope}', b'{"a": {}} x', b'{"a": "}\n{"', b'{"a":\n{]'])
async def test_one_event_that_is_bad_is_not_taken_for_several(client: Client, body: bytes) -> None:
    status, answer = await publish(client, body)
    assert status == 400
    assert "x-ndjson" not in answer["detail"]


PLACES = {
    "one": (b'{"a": nope}', "line 1 column 7"),
    "one behind blanks": (b' \n\t\n  {"a":\n   nope}', "line 4 column 4"),
    "one behind a byte order mark": (b'\xef\xbb\xbf {"a": nope}', "line 1 column 8"),
    "one that is no UTF-8": (b'\n{"a": "\xff"}', "line 2 column 8"),
}


@pytest.mark.parametrize(("body", "place"), PLACES.values(), ids=PLACES)
async def test_place_of_a_fault_is_that_in_the_body(
    client: Client, body: bytes, place: str
) -> None:
    status, answer = await publish(client, body)
    assert status == 400
    assert answer["detail"].endswith(f"{place}.")


ELEMENTS = {
    "on one line": (b"[%b, nope]", lambda size: f"line 1 column {size + 4}"),
    "on lines of their own": (b"\n [\n  %b,\n  nope\n ]", lambda size: "line 4 column 3"),
    "of lines": (b'[%b,\n\n{\n"a": \n  nope}]', lambda size: "line 5 column 3"),
    "behind its like": (b"[%b,1 ,11, 1 nope]", lambda size: f"line 1 column {size + 12}"),
    "no UTF-8": (b'[%b,\n "\xff"]', lambda size: "line 2 column 3"),
    "empty": (b"[%b,\n ,\n nope]", lambda size: "line 3 column 2"),
}  # fmt: skip


@pytest.mark.parametrize(("array", "place"), ELEMENTS.values(), ids=ELEMENTS)
async def test_place_of_a_fault_in_an_array_is_that_in_the_body(
    client: Client, array: bytes, place: Callable[[int], str]
) -> None:
    first = good("1")
    status, answer = await publish(client, array % first)
    assert status == 207
    assert answer["results"][-1]["errors"][0]["detail"].endswith(place(len(first)))


async def test_byte_order_mark_in_front_is_passed_over(client: Client) -> None:
    assert (await publish(client, b"\xef\xbb\xbf" + good("1")))[0] == 200
    assert (await publish(client, b"\xef\xbb\xbf" + good("2"), NDJSON))[0] == 200
    assert await stored_ids(client) == ["1", "2"]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "multipart/form-data", "json", "application/jsonx", "",
     "application/json; charset=utf-16", "application/x-ndjson; charset=latin-1"],
)  # fmt: skip
async def test_other_media_type_or_charset_is_not_read(client: Client, content_type: str) -> None:
    status, answer = await publish(client, good("1"), content_type)
    assert status == 415
    assert "not read" in answer["detail"]
    await _is_untouched(client)


@pytest.mark.parametrize(
    ("content_type", "quoted"),
    [
        (b"json", "type 'json'"),
        (b"application/json, application/json", "type 'application/json, application/json'"),
        (b"", "type ''"),
        (b"a/" + b"b" * 400, "type 'a/" + "b" * 98 + "…'"),
        (b"a/\xff'", 'type "a/\\udcff\'"'),
        (b"application/json; charset=klingon", "charset 'klingon'"),
    ],
    ids=["json", "twice", "empty", "long", "no text", "charset"],
)
async def test_type_that_is_not_read_is_quoted_as_it_was_sent(
    client: Client, content_type: bytes, quoted: str
) -> None:
    head = PUBLISH + b"Content-Type: %b\r\n" % content_type + with_length(2)
    answer = await exchange(client.host, client.port, [head, b"{}"])
    assert (answer.status, answer.content_type) == (415, PROBLEM)
    assert quoted in answer.told["detail"]


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF-8"', "application/jsonl"],
)
async def test_spellings_of_the_media_type_are_read(client: Client, content_type: str) -> None:
    assert (await publish(client, good("1"), content_type))[0] == 200


async def test_body_without_a_content_type_is_read_as_json(client: Client) -> None:
    parts = [PUBLISH + with_length(len(good("1"))), good("1")]
    assert (await exchange(client.host, client.port, parts)).status == 200


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x"])
async def test_other_content_encoding_is_not_read(client: Client, encoding: str) -> None:
    head = AS_JSON + f"Content-Encoding: {encoding}\r\n".encode() + with_length(len(good("1")))
    answer = await exchange(client.host, client.port, [head, good("1")])
    assert answer.status == 415
    assert answer.content_type == PROBLEM
    assert encoding in answer.told["detail"]
    headers = {"Content-Encoding": encoding, "Content-Type": JSON}
    async with client.post("/publish", data=good("1"), headers=headers) as response:
        assert response.headers["Accept-Encoding"] == "gzip, deflate"
        assert "Accept-Post" not in response.headers
    await _is_untouched(client)


@pytest.mark.parametrize(
    "encoding", ["gzip", "GZIP", "deflate", "x-gzip", "gzip, identity", "identity,gzip", ",deflate"]
)
async def test_compressed_body_is_read(client: Client, encoding: str) -> None:
    compress = zlib.compress if "deflate" in encoding else gzip.compress
    body = compress(_LINES)
    assert (await publish(client, body, NDJSON, **{"Content-Encoding": encoding}))[0] == 200
    assert await stored_ids(client) == ["1", "2"]


async def test_encodings_in_several_headers_are_one_list(client: Client) -> None:
    body = gzip.compress(good("1"))
    codings = b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"
    parts = [AS_JSON + codings + with_length(len(body)), body]
    assert (await exchange(client.host, client.port, parts)).status == 200


def _flushed(bits: int) -> bytes:
    """Compressed whole lines, whose end is missing."""
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(_LINES) + packer.flush(zlib.Z_FULL_FLUSH)


DAMAGED = {
    "gzip that is none": ("gzip", _LINES),
    "gzip cut off": ("gzip", gzip.compress(_LINES)[:40]),
    "gzip cut off after a whole line": ("gzip", _flushed(31)),
    "gzip without its checksum": ("gzip", gzip.compress(_LINES)[:-8]),
    "gzip with a wrong checksum": ("gzip", gzip.compress(_LINES)[:-8] + bytes(8)),
    "gzip with garbage behind it": ("gzip", gzip.compress(_LINES) + b"garbage"),
    "deflate that is none": ("deflate", _LINES),
    "deflate cut off after a whole line": ("deflate", _flushed(15)),
}


@pytest.mark.parametrize(("encoding", "body"), DAMAGED.values(), ids=DAMAGED)
async def test_damaged_compression_is_a_bad_request(
    client: Client, encoding: str, body: bytes
) -> None:
    head = PUBLISH + f"Content-Type: {NDJSON}\r\nContent-Encoding: {encoding}\r\n".encode()
    answer = await exchange(client.host, client.port, [head + with_length(len(body)), body])
    assert answer.status == 400
    assert answer.content_type == PROBLEM
    await _is_untouched(client)


async def test_members_of_a_gzip_body_are_all_read(client: Client) -> None:
    body = gzip.compress(good("1") + b"\n") + gzip.compress(good("2"))
    await publish(client, body, NDJSON, **{"Content-Encoding": "gzip"})
    assert await stored_ids(client) == ["1", "2"]


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n", b"1\r\n{\r\nzz\r\n"], ids=["first", "second"])
async def test_garbage_between_chunks_is_a_bad_request(client: Client, chunks: bytes) -> None:
    answer = await exchange(client.host, client.port, [AS_JSON + CHUNKED, chunks])
    assert answer.status == 400
    await _is_untouched(client)


STOPPED = {
    "JSON": AS_JSON + with_length(10_000) + good("1"),
    "NDJSON": PUBLISH + f"Content-Type: {NDJSON}\r\n".encode() + with_length(9999) + _LINES,
    "chunked": AS_JSON + CHUNKED + b"%x\r\n%s\r\n" % (len(good("1")), good("1")),
}


@pytest.mark.parametrize("sent", STOPPED.values(), ids=STOPPED)
async def test_nothing_is_kept_of_a_body_whose_client_went_away(
    client: Client, sent: bytes
) -> None:
    await give_up(client.host, client.port, [sent])
    await exchange(client.host, client.port, [sent], is_half_closed=True)
    await publish(client, good("next"))
    assert await stored_ids(client) == ["next"]
    assert (await get(client, "/stats"))["received_total"] == 1


@pytest.mark.parametrize("sent", STOPPED.values(), ids=STOPPED)
async def test_client_that_stops_in_the_middle_of_the_body_is_told(
    start: Start, sent: bytes
) -> None:
    client = await start(body_timeout=0.2)
    answer = await exchange(client.host, client.port, [sent])
    assert answer.status == 408
    assert answer.content_type == PROBLEM
    assert "body_timeout" in answer.told["detail"]
    await _is_untouched(client)


async def test_limits_are_told_by_the_names_of_their_settings(start: Start) -> None:
    client = await start(max_events=2, max_event=300, max_body=2000)
    three = [good("1"), good("2"), good("3")]
    long = spelled(payload='{"a":"' + "x" * 300 + '"}')
    for body, kind, name in (
        (array(three), JSON, "max_events"),
        (b"\n".join(three), NDJSON, "max_events"),
        (b"[" + b"1," * 500 + b"1]", JSON, "max_events"),
        (long, JSON, "max_event "),
        (b" " * 2001, JSON, "max_body"),
        (gzip.compress(b" " * 2001), JSON, "max_body"),
    ):
        encoding = "gzip" if body.startswith(b"\x1f") else "identity"
        status, answer = await publish(client, body, kind, **{"Content-Encoding": encoding})
        assert status == 413, name
        assert name in answer["detail"]
    await _is_untouched(client)


async def test_body_that_tells_no_length_is_refused_as_soon_as_it_is_too_long(
    start: Start,
) -> None:
    client = await start(max_event=300, max_body=2000)
    first, *_ = chunked([b" " * 2001])
    answer = await exchange(client.host, client.port, [AS_JSON + CHUNKED, first])
    assert answer.status == 413
    assert "max_body" in answer.told["detail"]
    await _is_untouched(client)


async def test_event_that_is_too_long_is_refused_alone(start: Start) -> None:
    client = await start(max_event=300)
    long = spelled(payload='{"a":"' + "x" * 300 + '"}')
    status, answer = await publish(client, array([good("1"), long, good("2")]))
    assert status == 207
    assert "max_event " in answer["results"][1]["errors"][0]["detail"]
    assert await stored_ids(client) == ["1", "2"]


async def test_many_bad_requests_at_once_take_nothing_from_a_good_one(client: Client) -> None:
    bad = [publish(client, body) for body in BROKEN.values()]
    *answers, (status, _) = await asyncio.gather(*bad, publish(client, good("1")))
    assert status == 200
    assert {status for status, _ in answers} == {400}
    assert await stored_ids(client) == ["1"]
