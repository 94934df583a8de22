"""The worker's own jobs run between batches and while it is idle, each in a transaction."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from added import with_plugin
from aggregator.pipeline import maintenance
from aggregator.pipeline.maintenance import Job, Maintenance
from aggregator.plugins import STORES, Plugins
from aggregator.store import StoreTransaction
from conftest import Client, Start
from events import event
from foreign import StumblingStore

STUMBLES = Plugins(
    [*Plugins.installed().found, with_plugin(STORES, "stumbles", "foreign:StumblingStore")]
)
BAD = event("bad", timestamp="never")


@pytest.fixture(autouse=True)
async def _soon(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Sweeps come soon, and often."""
    monkeypatch.setattr(maintenance, "_FIRST_SWEEP", 0.02)
    monkeypatch.setattr(maintenance, "_SWEEP", 0.02)
    yield
    StumblingStore.left.clear()


async def evicted(client: Client) -> int:
    async with client.get("/stats") as response:
        found = await response.json()
    assert found["quarantined"] + found["quarantine_evicted"] == found["invalid"]
    return int(found["quarantine_evicted"])


async def until_evicted(client: Client, number: int) -> None:
    async with asyncio.timeout(10):
        while await evicted(client) < number:
            await asyncio.sleep(0.01)


async def test_quarantine_is_swept_while_nobody_publishes(start: Start) -> None:
    client = await start(on_invalid="quarantine", quarantine_days=1e-6)
    assert (await client.post("/publish", json=BAD)).status == 422
    await until_evicted(client, 1)


async def test_quarantine_is_swept_while_others_publish(start: Start) -> None:
    client = await start(on_invalid="quarantine", quarantine_days=1e-6, batch_events=1)
    assert (await client.post("/publish", json=BAD)).status == 422

    async def publish() -> None:
        number = 0
        while True:
            number += 1
            assert (await client.post("/publish", json=event(str(number)))).status == 200

    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(publish())
        await until_evicted(client, 1)
        publishing.cancel()


async def test_store_that_fails_a_job_is_proved_again(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(STUMBLES, store="stumbles:", on_invalid="quarantine", quarantine_days=1e-6)
    StumblingStore.left["begin"] = 1
    async with asyncio.timeout(10):
        while StumblingStore.left["begin"]:
            await asyncio.sleep(0.01)
    while (await client.get("/readyz")).status != 200:
        await asyncio.sleep(0.01)
    assert "the store is back" in caplog.text
    assert (await client.post("/publish", json=BAD)).status == 422
    await until_evicted(client, 1)


async def test_job_with_more_to_do_is_due_at_once() -> None:
    async def run(_: StoreTransaction) -> bool:
        return True

    soon, late = Job("soon", run, first=0, every=60), Job("late", run, first=60, every=60)
    jobs = Maintenance([late, soon])
    jobs.start()
    assert jobs.pause == 0
    assert jobs.take() is soon
    assert jobs.take() is None
    assert 59 < (jobs.pause or 0) <= 60
    jobs.resume(soon)
    assert jobs.take() is soon


async def test_worker_without_jobs_waits_for_the_queue_alone() -> None:
    jobs = Maintenance([])
    jobs.start()
    assert jobs.take() is None
    assert jobs.pause is None
