"""Every byte that arrives is bounded and held, also compressed, and so is what decoding takes."""

import asyncio
import gzip
import json
import random
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bodies import JSON, NDJSON, array, good, publish, spelled, stored_ids
from clouds import BATCH, cloud
from wire import AS_JSON, connected, with_length

from aggregator.api.request import body, receiver
from aggregator.api.request.body import Inflater
from aggregator.api.request.decoder import Decoder
from aggregator.app import BUDGETS
from aggregator.event import Event
from conftest import Client, Start

_EMPTY = gzip.compress(b"")


def test_inflater_never_does_much_at_a_time() -> None:
    steps = list(Inflater("gzip").feed(_EMPTY * 10_000))
    assert b"".join(steps) == b""
    assert len(steps) >= len(_EMPTY) * 10_000 / body._SLICE


def test_what_is_left_of_a_slice_alone_is_copied_for_each_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a body of many members takes the square of its length."""
    fed: list[int] = []

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.stream = decompressobj(wbits)

        def decompress(self, part: bytes, most: int) -> bytes:
            fed.append(len(part))
            return self.stream.decompress(part, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self.stream, name)

    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    counts = []
    for members in (5000, 10_000):
        fed.clear()
        inflater = Inflater("gzip")
        assert b"".join(inflater.feed(_EMPTY * members)) == b""
        inflater.finish()
        counts.append(sum(fed))
    assert counts[1] <= 2.5 * counts[0]


@pytest.mark.parametrize(
    "packed",
    [_EMPTY * 1000, gzip.compress(b" " * 10_001)],
    ids=["as it comes", "as it is"],  # the bytes themselves hold the time
)
async def test_compressed_body_is_bounded_as_it_comes_and_as_it_is(
    start: Start, packed: bytes
) -> None:
    client = await start(max_event=10_000, max_body=10_000, queue_bytes=20_000)

    async def parts() -> AsyncIterator[bytes]:
        yield packed

    for _ in range(3):  # all that they held came back
        headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
        async with client.post("/publish", data=parts(), headers=headers) as response:
            assert response.status == 413
            assert "max_body" in (await response.json())["detail"]
    padded = good("1") + b" " * (10_000 - len(good("1")))
    assert (await publish(client, padded))[0] == 200


@pytest.mark.parametrize("level", [0, 9], ids=["stored", "packed"])
async def test_body_that_hardly_shrinks_has_room_while_nobody_else_is_there(
    start: Start, level: int
) -> None:
    client = await start(max_event=300_000, max_body=300_000, queue_bytes=400_000)
    text = random.Random(level).randbytes(140_000).hex()
    sent = spelled(payload=json.dumps({"a": text}))
    packed = gzip.compress(sent + b" " * (299_000 - len(sent)), level)
    for _ in range(3):  # and all of it came back
        status, _ = await publish(client, packed, JSON, **{"Content-Encoding": "gzip"})
        assert status == 200
    assert [budget.held for budget in client.app[BUDGETS][:2]] == [0, 0]


async def test_what_is_unpacked_is_held(start: Start) -> None:
    client = await start(max_event=100_000, max_body=100_000, queue_bytes=100_000, client_share=1)
    packed = gzip.compress(good("1") + b" " * 90_000)
    async with _uploading(client, 20_000):
        status, answer = await publish(client, packed, JSON, **{"Content-Encoding": "gzip"})
        assert status == 503
        assert "queue_bytes" in answer["detail"]
    assert (await publish(client, packed, JSON, **{"Content-Encoding": "gzip"}))[0] == 200


_MANY = [good(str(number)) for number in range(3000)]


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (array(_MANY), JSON),
        (array(_MANY[:1000]), JSON),
        (array(_MANY[:300]), JSON),
        (b"\n".join(_MANY), NDJSON),
        (array(cloud(id=f'"{number}"') for number in range(3000)), BATCH),
    ],
    ids=["array", "short array", "small array", "lines", "CloudEvents"],
)
async def test_events_hold_what_they_take_beside_their_bytes(
    start: Start, monkeypatch: pytest.MonkeyPatch, sent: bytes, kind: str
) -> None:
    monkeypatch.setattr(receiver, "_EVENT", 10_000)
    client = await start(
        max_event=100_000, max_body=3_000_000, queue_bytes=5_000_000, client_share=1
    )
    requests = client.app[BUDGETS][0]
    async with _uploading(client, 2_500_000):
        assert requests.held == 2_500_000
        status, answer = await publish(client, sent, kind)
        assert status == 503
        assert "queue_bytes" in answer["detail"]
    assert (await publish(client, sent, kind))[0] == 200  # alone it is not refused
    assert not requests.held


async def test_body_of_many_members_lets_others_have_their_turn(client: Client) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    packed = _EMPTY * 13_100
    meanwhile = asyncio.create_task(others())
    status, _ = await publish(client, packed, JSON, **{"Content-Encoding": "gzip"})
    meanwhile.cancel()
    assert status == 400
    assert turns >= len(packed) / body._SLICE


@asynccontextmanager
async def _uploading(client: Client, size: int) -> AsyncIterator[None]:
    """Somebody else's body is arriving meanwhile."""
    async with connected(client.host, client.port) as (_, writer):
        writer.write(AS_JSON + with_length(size + 1) + b" " * size)
        await writer.drain()
        await asyncio.sleep(0.2)
        yield
    await asyncio.sleep(0.2)


_DOUBTFUL = {
    "array": (array([spelled(payload='{"a":"\\u0000' + "x" * 90_000 + '"}'), good("2")]), JSON),
    "line": (spelled(payload='{"a":"\\u0000' + "x" * 90_000 + '"}') + b"\n" + good("2"), NDJSON),
    "one": (spelled(payload='{"a":"\\u0000' + "x" * 90_000 + '"}'), JSON),
}


@pytest.mark.parametrize(("doubtful", "kind"), _DOUBTFUL.values(), ids=_DOUBTFUL)
async def test_memory_that_careful_decoding_takes_is_held(
    start: Start, doubtful: bytes, kind: str
) -> None:
    client = await start(
        max_event=200_000, max_body=1_000_000, queue_bytes=1_000_000, client_share=1
    )
    fine = doubtful.replace(b"\\u0000", b"")
    async with _uploading(client, 240_000):
        status, answer = await publish(client, doubtful, kind)
        assert status == 503
        assert "queue_bytes" in answer["detail"]
        assert (await publish(client, fine, kind))[0] == 200
    status, answer = await publish(client, doubtful, kind)  # alone it is told what is wrong
    assert status in {207, 422}
    assert "U+0000" in answer["results"][0]["errors"][0]["detail"]
    padded = good("3") + b" " * (1_000_000 - len(good("3")))
    assert (await publish(client, padded))[0] == 200
    assert "3" in await stored_ids(client)


async def test_who_decodes_much_waits_in_turn(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, most = 0, 0
    decode = Decoder.each

    def counted(*arguments: Any) -> list[Event]:
        nonlocal going, most
        going += 1
        most = max(most, going)
        try:
            time.sleep(0.05)
            return decode(*arguments)
        finally:
            going -= 1

    monkeypatch.setattr(Decoder, "each", counted)
    doubtful, kind = _DOUBTFUL["line"]
    answers = await asyncio.gather(*(publish(client, doubtful, kind) for _ in range(4)))
    assert [status for status, _ in answers] == [207] * 4
    assert most == 1


_NUMBERS = range(1000)


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (array(good(str(number)) for number in _NUMBERS), JSON),
        (array(cloud(id=f'"{number}"') for number in _NUMBERS), BATCH),
    ],
    ids=["plain", "CloudEvents"],
)
async def test_what_is_decoded_quickly_needs_no_thread(
    client: Client, monkeypatch: pytest.MonkeyPatch, sent: bytes, kind: str
) -> None:
    assert receiver._SMALL < len(sent) < receiver._IN_THE_LOOP
    monkeypatch.setattr(receiver.Receiver, "_aside", None)
    status, answer = await publish(client, sent, kind)
    assert (status, len(answer["results"])) == (200, len(_NUMBERS))
