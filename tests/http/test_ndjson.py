"""Lines are decoded while the body arrives, and settled all together when it has."""

import gzip

import pytest
from bodies import NDJSON, get, good, publish, spelled, stored_ids
from wire import CHUNKED, PUBLISH, chunked, exchange

from conftest import Client, Start

_AS_LINES = PUBLISH + f"Content-Type: {NDJSON}\r\n".encode() + CHUNKED
_PAYLOAD = '{"a":"' + "é" * 500 + '"}'


def _lines(count: int) -> list[bytes]:
    """More than is decoded at once, if there are many."""
    return [spelled(event_id=f'"{number}"', payload=_PAYLOAD) for number in range(count)]


async def test_each_line_of_a_long_body_has_its_own_result(client: Client) -> None:
    lines = _lines(400)
    lines[100:100] = [b"", b"nope", b"  ", b"{}"]
    status, answer = await publish(client, b"\r\n".join(lines), NDJSON)
    assert status == 207
    assert [result["index"] for result in answer["results"]] == list(range(402))
    refused = [result["index"] for result in answer["results"] if result["status"] == "invalid"]
    assert refused == [100, 101]
    assert await stored_ids(client) == [str(number) for number in range(400)]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_bad_line_is_told_by_its_number_in_the_body(client: Client, size: int) -> None:
    body = b"\n\r\n" + good("1") + b"\r\n \t\n" + b'{"a": nope}\n' + good("2") + b"\n\n{"
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    answer = await exchange(client.host, client.port, [_AS_LINES, b"".join(chunked(pieces))])
    faults = [result["errors"] for result in answer.told["results"] if "errors" in result]
    assert [fault["detail"].partition(": line ")[2] for (fault,) in faults] == [
        "5 column 7",
        "8 column 2",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_do_not_depend_on_the_chunks_of_the_body(client: Client, size: int) -> None:
    body = b"\xef\xbb\xbf" + b"\r\n".join(_lines(5)) + b"\r\n"
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    parts = [_AS_LINES, b"".join(chunked(pieces))]
    answer = await exchange(client.host, client.port, parts)
    assert (answer.status, answer.told["stored"]) == (200, 5)
    for event in (await get(client, "/events"))["events"]:
        assert event["payload"] == {"a": "é" * 500}


async def test_too_many_lines_are_refused_before_the_body_ends(start: Start) -> None:
    client = await start(max_events=100)
    unfinished = next(iter(chunked([b"\n".join(_lines(1000))])))
    answer = await exchange(client.host, client.port, [_AS_LINES, unfinished])
    assert answer.status == 413
    assert "max_events" in answer.told["detail"]
    assert await stored_ids(client) == []


async def test_line_that_is_too_long_is_refused_alone(start: Start) -> None:
    client = await start(max_event=300)
    for size in (301, 100_000, 1_000_000):
        lines = [good(f"{size}a"), b'{"a":"' + b"x" * size, good(f"{size}b")]
        status, answer = await publish(client, b"\n".join(lines), NDJSON)
        assert status == 207
        assert "max_event " in answer["results"][1]["errors"][0]["detail"]
    assert len(await stored_ids(client)) == 6


async def test_lines_that_are_too_long_count_as_bytes_of_the_body(start: Start) -> None:
    client = await start(max_event=300, max_body=2000)
    status, answer = await publish(client, b"x" * 2001, NDJSON)
    assert status == 413
    assert "max_body" in answer["detail"]


async def test_nothing_is_kept_of_a_body_that_breaks_after_many_lines(client: Client) -> None:
    packed = bytearray(gzip.compress(b"\n".join(_lines(1000))))
    packed[-6] ^= 1  # the checksum, which comes last
    for body in (bytes(packed), bytes(packed[:-8])):
        status, _ = await publish(client, body, NDJSON, **{"Content-Encoding": "gzip"})
        assert status == 400
    assert await stored_ids(client) == []
    assert (await get(client, "/stats"))["received_total"] == 0
