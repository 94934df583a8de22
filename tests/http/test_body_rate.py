"""A body that comes too slowly is cut off; so is one that came fast and then stopped."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from bodies import JSON, PROBLEM, good, publish, spelled, stored_ids
from wire import AS_JSON, Answer, connected, received, with_length

from aggregator.api.request import body
from conftest import Client, Start

_BODY = good("1")
_PACKED = {"Content-Type": JSON, "Content-Encoding": "gzip"}
_LATE = 0.3  # seconds, instead of some


@pytest.fixture(autouse=True)
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_BEHIND", _LATE)


async def _upload(client: Client, parts: AsyncIterator[bytes], length: int) -> Answer:
    """The answer to a body that is sent as its parts come."""
    async with asyncio.timeout(20), connected(client.host, client.port) as (reader, writer):
        writer.write(AS_JSON + with_length(length))

        async def send() -> None:
            async for part in parts:
                writer.write(part)
                await writer.drain()

        sending = asyncio.create_task(send())
        try:
            return await received(reader)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _slowly(text: bytes, size: int, pause: float) -> AsyncIterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]
        await asyncio.sleep(pause)


async def _and_nothing(text: bytes) -> AsyncIterator[bytes]:
    yield text
    await asyncio.Event().wait()


async def test_slow_body_is_cut_off_and_gives_its_room_back(start: Start) -> None:
    client = await start(
        body_rate=10_000, max_event=100_000, max_body=100_000, queue_bytes=100_000, client_share=1
    )
    answer = await _upload(client, _slowly(b" " * 100_000, 100, 0.05), 100_000)
    assert (answer.status, answer.content_type) == (408, PROBLEM)
    assert "body_rate" in answer.told["detail"]
    assert "10,000 bytes a second" in answer.told["detail"]
    full = spelled(payload='{"a":"' + "x" * 65_000 + '"}')
    assert (await publish(client, full + b" " * (100_000 - len(full))))[0] == 200


async def test_body_that_stops_after_a_fast_start_is_cut_off_soon(start: Start) -> None:
    client = await start(body_rate=1000)
    began = time.monotonic()
    answer = await _upload(client, _and_nothing(b" " * 1_000_000), 1_000_010)
    assert answer.status == 408
    assert _LATE <= time.monotonic() - began < 20 * _LATE
    assert await stored_ids(client) == []


async def test_body_at_its_rate_arrives_however_long_it_takes(start: Start) -> None:
    client = await start(body_rate=1000)
    text = _BODY + b" " * (900 - len(_BODY))
    answer = await _upload(client, _slowly(text, 100, 0.08), len(text))
    assert answer.status == 200


async def test_rate_of_nothing_asks_for_none(start: Start) -> None:
    client = await start(body_rate=0)
    answer = await _upload(client, _slowly(_BODY, 40, 2 * _LATE), len(_BODY))
    assert answer.status == 200


async def test_time_that_decoding_takes_is_not_counted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start(body_rate=1_000_000)
    unpack = body.Inflater.feed

    def slowly(self: body.Inflater, chunk: bytes) -> Iterator[bytes]:
        time.sleep(_LATE)
        return unpack(self, chunk)

    async def parts() -> AsyncIterator[bytes]:
        packed = gzip.compress(_BODY)
        yield packed[:20]
        await asyncio.sleep(1.5 * _LATE)
        yield packed[20:]

    monkeypatch.setattr(body.Inflater, "feed", slowly)
    async with client.post("/publish", data=parts(), headers=_PACKED) as response:
        assert response.status == 200, await response.text()
