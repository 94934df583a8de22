"""`GET /events/stream`: what is stored arrives once each, in order, without a gap."""

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import pytest
from bodies import PROBLEM, get, publish, spelled
from sse import EventSource, Message
from stored import store

from added import INSTALLED, with_plugin
from aggregator.api.stream import PollResult, SharedPoll
from aggregator.app import STORE
from aggregator.plugins import STORES, Plugins
from aggregator.store import Query
from aggregator.testing import make_event
from conftest import Client, Start
from events import event
from failing import Forgetting

READERS = 90  # the client has no more connections


async def _publish(client: Client, *events: object) -> None:
    async with client.post("/publish", json=events) as response:
        assert response.status == 200, await response.text()


def _ids(messages: list[Message]) -> list[int]:
    return [int(message.id) for message in messages]


async def test_new_event_arrives_as_it_is_read(client: Client) -> None:
    await _publish(client, event("before"))
    async with EventSource(client) as source:
        await publish(client, spelled(event_id='"new"', payload='{\r\n"n": 1.50,\n"é": "\\n"}'))
        (message,) = await source.take(1)
    found = await get(client, "/events/logins/new")
    assert (message.kind, message.id, message.told) == ("message", "2", found)
    assert '"n": 1.50' in message.data


async def test_stream_says_what_proxies_and_browsers_should_do(client: Client) -> None:
    async with EventSource(client) as source:
        headers = source.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert source.last_id == "0"
    async with client.get("/events/stream") as response:
        assert await response.content.readline() == b"retry: 2000\n"


async def test_stream_can_begin_at_a_seq(client: Client) -> None:
    await _publish(client, *(event(str(number)) for number in range(250)))
    for after in (0, 10, 249):
        async with EventSource(client, f"/events/stream?after={after}") as source:
            assert _ids(await source.take(250 - after)) == list(range(after + 1, 251))
    async with EventSource(client, "/events/stream?after=250") as source:
        await _publish(client, event("new"))
        assert _ids(await source.take(1)) == [251]


async def test_last_id_wins_over_the_address_that_the_browser_asks_again(client: Client) -> None:
    await _publish(client, *(event(str(number)) for number in range(5)))
    async with EventSource(client, "/events/stream?after=0", "3") as source:
        assert _ids(await source.take(2)) == [4, 5]


@pytest.mark.every_store
async def test_reader_who_comes_and_goes_misses_nothing_and_gets_nothing_twice(
    client: Client,
) -> None:
    total = 300
    seen: list[int] = []

    async def go_on() -> None:
        for number in range(total):
            await _publish(client, event(str(number)))

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())
        last = "0"
        for pieces in count(1):
            async with EventSource(client, "/events/stream", last) as source:
                seen += _ids(await source.take(min(pieces, total - len(seen))))
                last = source.last_id
            if len(seen) == total:
                break
    assert seen == list(range(1, total + 1))


async def test_reader_who_was_sent_nothing_misses_nothing_either(client: Client) -> None:
    await _publish(client, event("1"))
    async with EventSource(client) as source:
        last = source.last_id
    await _publish(client, event("2"))
    async with EventSource(client, last_id=last) as source:
        assert _ids(await source.take(1)) == [2]


@pytest.mark.every_store
@pytest.mark.parametrize(
    ("arguments", "expected"),
    {
        "topic=even": [2, 4],
        "source=b": [3, 4],
        "since=2026-01-31T12:03:00Z": [3, 4],
        "until=2026-01-31T12:02:00Z": [1],
        "received_until=2020-01-01T00:00:00Z": [],
        "field=/n&equals=3": [3],
        "topic=even&source=b": [4],
    }.items(),
)
async def test_filters_choose_what_arrives(
    client: Client, arguments: str, expected: list[int]
) -> None:
    events = [
        event(
            str(number),
            topic="odd" if number % 2 else "even",
            source="a" if number < 3 else "b",
            timestamp=f"2026-01-31T12:0{number}:00Z",
            payload={"n": number},
        )
        for number in range(1, 5)
    ]
    async with EventSource(client, f"/events/stream?{arguments}") as source:
        await _publish(client, *events)
        assert _ids(await source.take(len(expected))) == expected


async def test_reader_whose_filter_passes_over_much_need_not_begin_again(start: Start) -> None:
    client = await start(heartbeat=0.1)
    async with EventSource(client, "/events/stream?topic=rare") as source:
        await _publish(client, *(event(str(number)) for number in range(30)))
        while source.last_id != "30":
            assert await source.until_sign_of_life() == []
        await _publish(client, event("1", topic="rare"))
        assert _ids(await source.take(1)) == [31]


async def test_silent_stream_gives_signs_of_life(start: Start) -> None:
    client = await start(heartbeat=0.05)
    async with EventSource(client) as source:
        assert [await source.until_sign_of_life() for _ in range(3)] == [[], [], []]
        assert source.last_id == "0"


async def test_what_others_write_to_the_store_arrives_with_the_next_sign_of_life(
    start: Start,
) -> None:
    client = await start(heartbeat=0.1)
    async with EventSource(client) as source:
        await store(client, make_event("1"))
        assert _ids(await source.take(1)) == [1]


@pytest.mark.parametrize(
    ("arguments", "header", "named"),
    [
        ("after=x", "", "after"),
        ("after=6", "", "after"),
        ("", "6", "after"),
        ("", "x", "Last-Event-ID"),
        ("", "-1", "Last-Event-ID"),
        ("limit=5", "", "limit"),
        ("order=desc", "", "order"),
        ("field=/a", "", "field"),
        ("after=1&after=2", "", "after"),
    ],
)
async def test_bad_argument_is_refused_and_named(
    client: Client, arguments: str, header: str, named: str
) -> None:
    await _publish(client, *(event(str(number)) for number in range(5)))
    headers = {"Last-Event-ID": header} if header else {}
    for method in ("GET", "HEAD"):
        path = f"/events/stream?{arguments}"
        async with client.request(method, path, headers=headers) as response:
            assert (response.status, response.content_type) == (400, PROBLEM)
            if method == "GET":
                assert named in (await response.json(content_type=PROBLEM))["detail"]


async def test_head_answers_without_a_stream(client: Client) -> None:
    async with client.head("/events/stream") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert await response.read() == b""


async def test_most_readers_at_once_is_a_setting(start: Start) -> None:
    client = await start(streams=2)
    async with EventSource(client) as one:
        async with EventSource(client), client.get("/events/stream") as response:
            assert (response.status, response.content_type) == (503, PROBLEM)
            assert response.headers["Retry-After"]
        async with asyncio.timeout(10):  # until it is seen that the reader has left
            while (await client.head("/events/stream")).status != 200:
                await asyncio.sleep(0.02)
        await _publish(client, event())
        assert _ids(await one.take(1)) == [1]


async def test_streams_end_with_a_word_before_the_service_does(client: Client) -> None:
    async with EventSource(client) as source:
        closing = asyncio.create_task(client.server.close())
        messages = [message async for message in source.messages()]
        await closing
    assert [message.kind for message in messages] == ["stopping"]
    assert (source.response.content.at_eof(), source.last_id) == (True, "0")


async def test_many_readers_are_all_told_in_the_same_few_reads(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start(client_share=1)
    reads = []
    read = SharedPoll._read

    async def counted(poll: SharedPoll, wanted: Query, *more: Any) -> PollResult:
        reads.append(wanted)
        return await read(poll, wanted, *more)

    monkeypatch.setattr(SharedPoll, "_read", counted)
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(EventSource(client)) for _ in range(READERS)]
        for number in range(20):
            await _publish(client, event(str(number)))
        for reader in readers:
            assert _ids(await reader.take(20)) == list(range(1, 21))
    assert len(reads) < READERS + 2 * 21  # each begins with one, and may share it with nobody


class TestStoreThatForgets:
    """What is kept no more."""

    @pytest.fixture
    def store_url(self) -> str:
        return "forgets:"

    @pytest.fixture
    async def client(self, start: Start) -> Client:
        forgets = with_plugin(STORES, "forgets", "failing:Forgetting")
        client = await start(Plugins([*INSTALLED.found, forgets]), heartbeat=0.1)
        await _publish(client, *(event(str(number)) for number in range(10)))
        assert client.app
        kept = client.app[STORE]
        assert isinstance(kept, Forgetting)
        kept.oldest = 6
        return client

    @pytest.mark.parametrize("after", [0, 1, 4])
    async def test_reader_from_before_is_told_from_where_to_go_on(
        self, client: Client, after: int
    ) -> None:
        for headers, arguments in (({}, f"after={after}"), ({"Last-Event-ID": str(after)}, "")):
            async with client.get(f"/events/stream?{arguments}", headers=headers) as response:
                assert (response.status, response.content_type) == (410, PROBLEM)
                detail = (await response.json(content_type=PROBLEM))["detail"]
            assert "after=5" in detail
        async with EventSource(client, "/events/stream?after=5") as source:
            assert _ids(await source.take(5)) == [6, 7, 8, 9, 10]

    async def test_reader_who_falls_behind_what_is_kept_is_sent_away(self, client: Client) -> None:
        assert client.app
        async with EventSource(client) as source:
            kept = client.app[STORE]
            assert isinstance(kept, Forgetting)
            kept.oldest, kept.newest = 20, 25
            messages = [message async for message in source.messages()]
        assert [message.kind for message in messages] == ["cut-off"]
        assert "after=19" in messages[0].data

    async def test_store_that_cannot_be_read_for_a_while_is_asked_again(
        self, client: Client
    ) -> None:
        assert client.app
        async with EventSource(client) as source:
            kept = client.app[STORE]
            assert isinstance(kept, Forgetting)
            kept.fails = True
            await _publish(client, event("new"))
            assert await source.until_sign_of_life() == []
            kept.fails = False
            assert _ids(await source.take(1)) == [11]
