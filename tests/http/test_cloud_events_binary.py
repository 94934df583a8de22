"""A CloudEvent whose attributes are headers is the same event as the one that is all JSON."""

import gzip
import json
from itertools import count

import pytest
from bodies import JSON
from clouds import BATCH, HEADERS, binary, cloud, kept, kept_ids, result_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wire import PUBLISH, exchange, with_length

from aggregator.core.identity import PayloadKind
from conftest import Client, Start

_ids = count(1)

SAME = {
    "JSON": (b' {"a": 1.0} ', JSON, {"data": '{"a":1}'}),
    "JSON with a byte order mark": (b"\xef\xbb\xbf[1]", JSON, {"data": "[1]"}),
    "JSON null": (b"null", "application/json; charset=utf-8", {"data": "null"}),
    "JSON by suffix": (b"[1]", "application/vnd.a+json", {"data": "[1]"}),
    "JSON as text": (b"[1]", "text/json", {"data": "[1]"}),
    "text": ("a € \n".encode(), "text/plain", {"data": '"a \\u20ac \\n"'}),
    "text in ASCII": (b"a", "text/csv; charset=us-ascii", {"data": '"a"'}),
    "XML": (b"<a/>", "application/soap+xml", {"data": '"<a/>"'}),
    "text that is not UTF-8": (b"\xe9", "text/plain", {"data_base64": '"6Q=="'}),
    "text of another charset": (b"e", "text/plain; charset=latin-1", {"data_base64": '"ZQ=="'}),
    "text that holds U+0000": (b"\0", "text/plain", {"data_base64": '"AA=="'}),
    "bytes": (b"\0\xff", "application/octet-stream", {"data_base64": '"AP8="'}),
    "bytes that look like JSON": (b"{}", "image/png", {"data_base64": '"e30="'}),
    "lines": (b"{}\n{}", "application/x-ndjson", {"data_base64": '"e30Ke30="'}),
    "JSON of no type": (b" [1]", None, {"data": "[1]"}),
    "bytes of no type": (b"[1", None, {"data_base64": '"WzE="'}),
    "nothing": (None, None, {}),
    "nothing of a type": (b"", JSON, {}),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "members"), SAME.values(), ids=SAME)
async def test_event_in_the_other_mode_is_a_duplicate(
    client: Client, body: bytes | None, kind: str | None, members: dict[str, str]
) -> None:
    assert (await binary(client, body, kind))[0] == 200
    assert (await result_of(client, cloud(**members)))["status"] == "duplicate"
    named = {"datacontenttype": kind} if kind else {}
    assert json.loads((await kept(client)).attributes) == {"specversion": "1.0", **named}


async def test_headers_are_attributes_by_their_names_in_lower_case(client: Client) -> None:
    status, _ = await binary(client, b"{}", JSON, Subject="a", TRACEparent="00-1")
    assert status == 200
    attributes = json.loads((await kept(client)).attributes)
    assert attributes == {
        "specversion": "1.0",
        "subject": "a",
        "traceparent": "00-1",
        "datacontenttype": JSON,
    }


SPELLINGS = {
    "plain": ("a b", "a b"),
    "percent": ("Euro%20%E2%82%AC%20%f0%9f%98%80", "Euro € 😀"),
    "percent of a percent, once": ("100%2525", "100%25"),
    "percent of nothing": ("100% %zz %4", "100% %zz %4"),
    "in quotes": (r'"a \"b\" \\ %22"', 'a "b" \\ "'),
    "quote that stays open": ('"a', '"a'),
    "quotes inside": ('a "b"', 'a "b"'),
    "plus": ("a+b", "a+b"),
    "UTF-8 as it is": ("€", "€"),
}


@pytest.mark.parametrize(("sent", "meant"), SPELLINGS.values(), ids=SPELLINGS)
async def test_value_of_a_header_is_unquoted_and_decoded_once(
    client: Client, sent: str, meant: str
) -> None:
    assert (await binary(client, None, subject=sent))[0] == 200
    assert json.loads((await kept(client)).attributes)["subject"] == meant


@pytest.mark.parametrize("name", ["specversion", "id", "type", "source"])
async def test_one_telling_header_makes_a_cloud_event_of_a_request(
    client: Client, name: str
) -> None:
    headers = {f"CE-{name.upper()}": "1", "Content-Type": JSON}
    async with client.post("/publish", data=b"{}", headers=headers) as response:
        answer = await response.json(content_type=None)
    missing = {"/specversion", "/id", "/type", "/source"} - {f"/{name}"}
    assert missing <= {fault["pointer"] for fault in answer["results"][0]["errors"]}


async def _by_hand(client: Client, more: bytes, body: bytes = b"") -> tuple[int, dict[str, object]]:
    lines = b"".join(f"{name}: {text}\r\n".encode() for name, text in HEADERS.items())
    parts = [PUBLISH + lines + more + with_length(len(body)), body]
    answer = await exchange(client.host, client.port, parts)
    return answer.status, answer.told


async def test_header_given_twice_is_told_as_a_member_given_twice(client: Client) -> None:
    for name in ("ce-id", "CE-Source", "Ce-Specversion", "ce-time"):
        status, answer = await _by_hand(client, f"{name}: 1\r\n".encode())
        assert status == 422
        (fault,) = answer["results"][0]["errors"]  # type: ignore[index]
        assert fault == {"pointer": f"/{name[3:].lower()}", "detail": "stands twice"}
    assert await kept_ids(client) == []


RAW = {
    "UTF-8": "Zürich €".encode(),
    "Latin-1": "Zürich ¤".encode("latin-1"),
    "percent-encoded": b"Z%C3%BCrich %E2%82%AC",
    "Latin-1 and percent-encoded": b"Z\xfcrich %E2%82%AC",
    "UTF-8 and percent-encoded": "Zürich %E2%82%AC".encode(),
    "Latin-1 in quotes": b'"Z\xfcrich \\" %E2%82%AC"',
}


@pytest.mark.parametrize("value", RAW.values(), ids=RAW)
@pytest.mark.parametrize("name", ["subject", "id", "source", "type", "city"])
async def test_header_beyond_ascii_is_taken_however_it_is_encoded(
    client: Client, value: bytes, name: str
) -> None:
    values = {line: text.encode() for line, text in HEADERS.items()} | {f"ce-{name}": value}
    head = b"".join(b"%b: %b\r\n" % (line.encode(), text) for line, text in values.items())
    answer = await exchange(client.host, client.port, [PUBLISH + head + with_length(0)])
    assert answer.status == 200, answer.told
    async with client.get("/events", headers={"Accept": BATCH}) as response:
        (event,) = await response.json(content_type=None)
    assert event[name].startswith("Zürich ")


async def test_parameter_of_the_media_type_may_be_latin_1(client: Client) -> None:
    sent = b"Content-Type: text/plain; name=Z\xfcrich\r\n"
    assert (await _by_hand(client, sent, b"a"))[0] == 200
    attributes = json.loads((await kept(client)).attributes)
    assert attributes["datacontenttype"] == "text/plain; name=Zürich"


@pytest.mark.parametrize("value", [b"%E9", b"%ed%a0%80"])
async def test_percent_encoded_bytes_should_be_utf_8(client: Client, value: bytes) -> None:
    status, answer = await _by_hand(client, b"ce-subject: " + value + b"\r\n")
    assert status == 400
    assert "ce-subject has percent-encoded is not UTF-8" in str(answer["detail"])
    assert await kept_ids(client) == []


async def test_no_header_can_pass_for_data(client: Client) -> None:
    for name in (b"ce-data", b"Ce-Data_Base64"):
        status, answer = await _by_hand(client, name + b": 1\r\n")
        assert status == 400
        assert "the body is its data" in str(answer["detail"])


@pytest.mark.parametrize("more", [b"", b"Content-Type: text/plain\r\n"])
async def test_no_header_can_contradict_the_type_of_the_body(client: Client, more: bytes) -> None:
    status, answer = await _by_hand(client, b"ce-datacontenttype: text/xml\r\n" + more, b"{}")
    assert status == 400
    assert "Content-Type says" in str(answer["detail"])
    assert await kept_ids(client) == []


BROKEN = {
    "not JSON": b"nope",
    "more members": b'1,"id":"2"',
    "more members, quoted": b'1,"id":"2","x":{"y":1}',
    "end of the object": b"1}",
    "two values": b"1 2",
    "blanks": b"  ",
    "invalid UTF-8": b'"\xff"',
    "comment": b"1//",
    "10,000 levels": b"[" * 10_000 + b"]" * 10_000,
    "100 levels, and the event's own": b"[" * 100 + b"]" * 100,
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_body_that_is_not_the_json_it_claims_to_be_is_a_bad_request(
    client: Client, body: bytes
) -> None:
    status, answer = await binary(client, body, JSON)
    assert status == 400
    assert answer["detail"].startswith("The body is ")
    assert await kept_ids(client) == []


_fragments = st.sampled_from(
    ["1", "2", ",", '"id"', '"a"', ":", "{", "}", "[", "]", " ", "//", "\\"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.lists(_fragments, min_size=1, max_size=12).map("".join))
@example('1,"id":"2"')
@example('{"a":1},"a":{"id":2}')
async def test_no_body_can_pass_for_more_members(client: Client, body: str) -> None:
    event_id = str(next(_ids))
    status, _ = await binary(client, body.encode(), JSON, id=event_id)
    try:
        data = json.loads(body)
    except ValueError:
        assert status == 400
        return
    assert status == 200
    found = await kept(client, event_id=event_id)
    assert found.payload
    assert json.loads(found.payload) == data
    assert json.loads(found.attributes).keys() == {"specversion", "datacontenttype"}


@pytest.mark.parametrize(
    "body", [b'{"x": NaN}', b'{"x": "\\ud800"}', b'{"x": 1e400}', b'{"x":"\\u0000"}']
)
async def test_fault_in_the_body_has_its_place_in_the_data(client: Client, body: bytes) -> None:
    status, answer = await binary(client, body, JSON)
    assert status == 422
    assert answer["results"][0]["errors"][0]["pointer"] == "/data/x"


@pytest.mark.parametrize("body", [b"NaN", b"1e400", b'"\\ud800"', b'"\\u0000"'])
async def test_fault_of_the_whole_data_is_that_of_the_event(client: Client, body: bytes) -> None:
    for kind in (JSON, ""):
        status, answer = await binary(client, body, kind)
        assert (status, answer["results"][0]["errors"][0]["pointer"]) == (422, "/data")


@pytest.mark.parametrize("kind", [JSON, "application/vnd.shop+json"])
async def test_json_in_another_charset_is_not_read(client: Client, kind: str) -> None:
    status, answer = await binary(client, '{"x":1}'.encode("utf-16"), f"{kind}; charset=utf-16")
    assert status == 415
    assert "charset" in answer["detail"]


async def test_compressed_body_is_read(client: Client) -> None:
    headers = {**HEADERS, "Content-Type": JSON, "Content-Encoding": "gzip"}
    body = gzip.compress(b'{"a": 1}')
    async with client.post("/publish", data=body, headers=headers) as response:
        assert response.status == 200
    assert (await kept(client)).payload == b'{"a": 1}'


async def test_large_body_is_read(client: Client) -> None:
    body = bytes(range(256)) * 1000
    assert (await binary(client, body, "image/png"))[0] == 200
    found = await kept(client)
    assert (found.payload_kind, found.payload) == (PayloadKind.BYTES, body)


async def test_limit_of_an_event_counts_it_as_json(start: Start) -> None:
    client = await start(max_event=300)
    status, answer = await binary(client, bytes(200), "image/png")
    assert status == 413
    assert "max_event " in answer["detail"]
