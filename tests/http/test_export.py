"""`GET /events` as NDJSON: everything that was stored at its start, one event a line."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from aiohttp import ClientPayloadError
from bodies import NDJSON, PROBLEM, get, publish, spelled
from stored import store
from wire import connected

from added import INSTALLED, with_plugin
from aggregator.app import STORE
from aggregator.plugins import STORES, Plugins
from aggregator.store import PAGE_BYTES
from aggregator.testing import make_event
from conftest import Client, Start
from events import event
from failing import FailingReads

ALL = {"Accept": NDJSON}


async def _fill(client: Client, count: int) -> None:
    await store(client, *(make_event(str(number), f"t{number % 2}") for number in range(count)))


async def _export(client: Client, arguments: str = "") -> list[int]:
    async with client.get(f"/events?{arguments}", headers=ALL) as response:
        assert (response.status, response.content_type) == (200, NDJSON)
        body = await response.read()
    assert not body or body.endswith(b"\n")
    return [json.loads(line)["seq"] for line in body.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    {
        "": range(1, 2501),
        "order=desc": range(2500, 0, -1),
        "topic=t0": range(1, 2501, 2),
        "topic=t1&order=desc": range(2500, 0, -2),
        "after=2000": range(2001, 2501),
        "after=3&order=desc": range(2, 0, -1),
        "after=9223372036854775807&order=desc": range(2500, 0, -1),
        "after=0&order=desc": range(0),
        "after=1&order=desc": range(0),
        "after=2500": range(0),
        "limit=1700": range(1, 1701),
        "limit=1": range(1, 2),
        "limit=1500&order=desc": range(2500, 1000, -1),
        "topic=none": range(0),
        "topic=none&order=desc": range(0),
    }.items(),
)
async def test_export_is_everything_asked_for_in_order(
    client: Client, arguments: str, expected: range
) -> None:
    await _fill(client, 2500)
    assert await _export(client, arguments) == list(expected)


async def test_export_of_nothing_is_empty(client: Client) -> None:
    assert await _export(client) == []
    assert await _export(client, "order=desc") == []


async def test_line_is_the_event_as_on_a_page(client: Client) -> None:
    await publish(client, spelled(payload='{\r\n "n": 1.50,\n\t"text": "a\\nb"}'))
    (found,) = (await get(client, "/events"))["events"]
    async with client.get("/events", headers=ALL) as response:
        (line,) = (await response.read()).splitlines()
    assert json.loads(line) == found
    assert b'"n": 1.50' in line


@pytest.mark.every_store
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_export_ends_with_what_was_there_at_its_start_while_more_is_published(
    client: Client, order: str
) -> None:
    await _fill(client, 5000)
    is_over = asyncio.Event()
    answers: list[int] = []

    async def go_on() -> None:
        while not is_over.is_set() or not answers:
            new = event(f"new {len(answers)}")
            async with client.post("/publish", json=new) as response:
                answers.append((await response.json())["results"][0]["seq"])

    async with (
        asyncio.TaskGroup() as group,
        client.get(f"/events?order={order}", headers=ALL) as response,
    ):
        group.create_task(go_on())
        first = await response.content.readline()
        while len(answers) < 3:  # published while the export is under way
            await asyncio.sleep(0)
        seqs = [json.loads(line)["seq"] for line in (first + await response.read()).splitlines()]
        is_over.set()
    assert sorted(seqs) == list(range(1, 5001))
    assert seqs == sorted(seqs, reverse=order == "desc")


@pytest.mark.parametrize("path", ["/events", "/events?limit=1"])
async def test_head_of_an_export_has_no_body(client: Client, path: str) -> None:
    await _fill(client, 3)
    async with client.head(path, headers=ALL) as response:
        assert (response.status, response.content_type) == (200, NDJSON)
        assert await response.read() == b""
    assert len(await _export(client)) == 3


@pytest.mark.parametrize("arguments", ["limit=0", "limit=x", "colour=red", "order=up"])
async def test_bad_argument_is_refused(client: Client, arguments: str) -> None:
    async with client.get(f"/events?{arguments}", headers=ALL) as response:
        assert (response.status, response.content_type) == (400, PROBLEM)


async def test_exports_under_way_wait_for_room_and_end_whole(start: Start) -> None:
    client = await start(answer_bytes=6_000_000, answer_timeout=60.0)
    await _fill(client, 100)
    filler = b'{"filler":"%s"}' % (b"x" * 900_000)
    await store(client, *(make_event(f"large {number}", payload=filler) for number in range(6)))

    async def export() -> tuple[int, int]:
        async with client.get("/events", headers=ALL) as response:
            return response.status, len((await response.read()).splitlines())

    ends = await asyncio.gather(*(export() for _ in range(8)))
    begun = [lines for status, lines in ends if status == 200]
    assert len(begun) >= 2, "only those that have not begun are turned away"
    assert set(begun) == {106}


class TestStoreThatFails:
    """The store fails in the middle of an export."""

    @pytest.fixture
    def store_url(self) -> str:
        return "fails-reading:"

    @pytest.fixture
    def plugins(self) -> Iterator[Plugins]:
        failing = with_plugin(STORES, "fails-reading", "failing:FailingReads")
        return Plugins([*INSTALLED.found, failing])

    async def test_client_sees_that_the_answer_is_not_whole(
        self, start: Start, plugins: Plugins
    ) -> None:
        client = await start(plugins)
        await _fill(client, 500)
        assert client.app
        reads = client.app[STORE]
        assert isinstance(reads, FailingReads)
        reads.left = 2
        async with client.get("/events", headers=ALL) as response:
            assert response.status == 200
            with pytest.raises(ClientPayloadError):
                await response.read()
        reads.left = 2
        async with connected(client.host, client.port) as (reader, writer):
            writer.write(b"GET /events HTTP/1.0\r\nAccept: application/x-ndjson\r\n\r\n")
            with pytest.raises(ConnectionResetError):  # any other end would be that of the answer
                await reader.read()
        reads.left = 0
        async with client.get("/events", headers=ALL) as response:
            assert (response.status, response.content_type) == (503, PROBLEM)
            assert response.headers["Retry-After"]


async def test_page_of_an_export_is_no_longer_than_any_other(client: Client) -> None:
    filler = b'{"filler":"%s"}' % (b"x" * 1_000_000)
    events = [make_event(str(number), payload=filler) for number in range(12)]
    assert sum(len(one.payload) for one in events) > PAGE_BYTES
    await store(client, *events)
    assert await _export(client) == list(range(1, 13))
    assert await _export(client, "order=desc") == list(range(12, 0, -1))
