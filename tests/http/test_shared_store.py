"""Where several processes share a store, each tells what the others have stored."""

import asyncio

import pytest
from sse import EventSource

from added import with_plugin
from aggregator.pipeline import pending
from aggregator.plugins import STORES, Plugins
from conftest import Client, Start
from events import event

SHARED = Plugins([*Plugins.installed().found, with_plugin(STORES, "shared", "foreign:SharedStore")])


@pytest.fixture
def store_url() -> str:
    return "shared:"


async def stored(client: Client) -> int:
    async with client.get("/stats") as response:
        found = await response.json()
    assert found["received_total"] == found["unique_processed"] + found["duplicate_dropped"]
    return int(found["unique_processed"])


async def test_numbers_are_those_of_all_processes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "_FRESH", 0)
    one, other = await start(SHARED), await start(SHARED)
    before = await stored(one)
    assert (await one.post("/publish", json=event("numbers 1"))).status == 200
    assert await stored(other) == before + 1
    assert (await other.post("/publish", json=event("numbers 2"))).status == 200
    assert (await other.post("/publish", json=event("numbers 1"))).status == 200
    assert await stored(one) == await stored(other) == before + 2


async def test_followers_are_told_of_what_another_process_stores(start: Start) -> None:
    one, other = await start(SHARED), await start(SHARED)
    async with EventSource(one) as source:
        for number in range(3):
            name = f"followed {number}"
            assert (await other.post("/publish", json=event(name))).status == 200
            async with asyncio.timeout(5):
                (told,) = await source.take(1)
            assert told.told["event_id"] == name
