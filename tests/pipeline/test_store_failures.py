"""When the store fails nothing is acknowledged until it is proved again."""

import asyncio
from typing import Any

import pytest

from added import with_plugin, with_stages
from aggregator.app import INTAKE, STORE
from aggregator.plugins import STORES, Plugins
from conftest import Client, Start
from events import event
from failing import SLOW, FailingStore, HeldStore
from running import LIMIT

FAILING = Plugins(
    [
        *with_stages(catches="misbehaving:CatchesStoreErrors").found,
        with_plugin(STORES, "failing", "failing:FailingStore"),
        with_plugin(STORES, "held", "failing:HeldStore"),
        with_plugin(STORES, "slow", "failing:SlowStore"),
    ]
)


@pytest.fixture
def store_url() -> str:
    return "failing:"


async def publish(client: Client, *events: dict[str, Any]) -> tuple[int, Any]:
    async with client.post("/publish", json=list(events)) as response:
        if response.status == 503:
            assert response.headers["Retry-After"]
        return response.status, await response.json()


async def until_ready(client: Client) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/readyz")).status != 200:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("point", ["begin", "commit", "fsync"])
async def test_failed_batch_is_answered_503_and_can_be_sent_again(start: Start, point: str) -> None:
    client = await start(FAILING)
    FailingStore.failures[point] = 1
    status, problem = await publish(client, event("1"))
    assert (status, problem["detail"]) == (503, f"{point} failed")
    await until_ready(client)
    status, answer = await publish(client, event("1"))
    assert status == 200
    # Only after a failed fsync is the event there: the retry is what tells.
    expected = "duplicate" if point == "fsync" else "stored"
    assert answer["results"][0]["status"] == expected
    async with client.get("/stats") as response:
        stats = await response.json()
    assert stats["unique_processed"] == 1
    assert stats["received_total"] == 1 + (point == "fsync")


async def test_nothing_is_acknowledged_until_the_store_is_proved(start: Start) -> None:
    client = await start(FAILING)
    FailingStore.failures.update(commit=1, reopen=3)
    assert (await publish(client, event("1")))[0] == 503
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert "failed" in (await response.json())["detail"]
    await until_ready(client)
    assert (await publish(client, event("2")))[0] == 200
    store = client.app[STORE]
    assert isinstance(store, FailingStore)
    reopened = store.happened.index("reopen held")
    assert store.happened[:reopened].count("reopen failed") == 3
    assert "commit held" not in store.happened[:reopened]


async def test_everybody_who_waits_is_told(start: Start) -> None:
    client = await start(FAILING)
    FailingStore.failures.update(commit=1, reopen=2)
    answers = await asyncio.gather(*(publish(client, event(str(n))) for n in range(20)))
    assert {status for status, _ in answers} == {503}
    await until_ready(client)
    async with client.get("/stats") as response:
        assert (await response.json())["queue_size_current"] == 0


async def test_who_waits_in_the_queue_is_told_before_the_store_is_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldStore, "gate", asyncio.Event(), raising=False)
    client = await start(FAILING, store="held:", batch_events=1)
    FailingStore.failures.update(commit=1, reopen=1_000_000)
    publishing = [asyncio.create_task(publish(client, event(str(n)))) for n in range(5)]
    pending = client.app[INTAKE].pending
    async with asyncio.timeout(LIMIT):
        while pending.snapshot().queued < len(publishing):
            await asyncio.sleep(0)
        HeldStore.gate.set()
        answers = await asyncio.gather(*publishing)
    assert {status for status, _ in answers} == {503}
    assert (await client.get("/readyz")).status == 503, "the store is not back"
    FailingStore.failures.clear()
    await until_ready(client)


async def test_store_error_is_no_stage_fault_whatever_the_stage_makes_of_it(
    start: Start,
) -> None:
    client = await start(FAILING, pipeline="validate | catches dedup persist")
    status, problem = await publish(client, event("1"))
    assert (status, problem["detail"]) == (503, "the stage saw it fail")


async def test_slow_store_is_no_stage_fault(start: Start) -> None:
    client = await start(FAILING, store="slow:", stage_timeout=SLOW / 3)
    assert (await publish(client, event("1")))[0] == 200


async def test_transaction_ends_with_the_stage_that_it_was_lent_to(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = with_stages(keeps="misbehaving:KeepsItsTransaction")
    client = await start(plugins, store="memory:", pipeline="validate | keeps dedup persist")
    assert (await publish(client, event("1")))[0] == 200
    status, problem = await publish(client, event("2"))
    assert status == 500
    assert "used its transaction after it had answered" in problem["detail"]
