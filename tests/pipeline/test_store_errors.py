"""Whatever a store raises is a StoreError; where it asks for another try the batch is run again."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from added import with_plugin, with_stages
from aggregator.app import INTAKE, STORE
from aggregator.errors import StoreError
from aggregator.plugins import STORES, Plugins
from aggregator.store import Query
from conftest import Client, Start
from events import event
from foreign import AsksForAnotherTry, StumblingStore, StumblingTransaction
from misbehaving import Remembers

PLUGINS = Plugins(
    [
        *with_stages(effects="misbehaving:Remembers", odd="misbehaving:Raises").found,
        with_plugin(STORES, "stumbles", "foreign:StumblingStore"),
        with_plugin(STORES, "again", "foreign:AsksForAnotherTry"),
        with_plugin(STORES, "says", "foreign:NotAsItSays"),
    ]
)
BATCH = [event("new"), event("old"), event("new")]
STRICT = {"Prefer": "handling=strict"}


async def publish(client: Client, *events: dict[str, Any], **headers: str) -> tuple[int, Any]:
    async with client.post("/publish", json=list(events), headers=headers) as response:
        return response.status, await response.json()


async def stats(client: Client) -> dict[str, int]:
    async with client.get("/stats") as response:
        found: dict[str, int] = await response.json()
        return found


async def until_ready(client: Client) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/readyz")).status != 200:
            await asyncio.sleep(0.01)


async def check_that_all_came_back(client: Client) -> None:
    """No room is held, nobody waits, and the numbers add up."""
    intake = client.server.app[INTAKE]  # type: ignore[attr-defined]
    assert not intake.pending.answered_early
    assert not intake.queue._events
    found = await stats(client)
    assert found["queue_size_current"] == 0
    assert found["received_total"] == found["unique_processed"] + found["duplicate_dropped"]
    async with client.get("/events") as response:
        events = (await response.json())["events"]
    assert [one["event_id"] for one in events] == ["old", "new"]
    assert (found["unique_processed"], found["processed_topics"]) == (2, ["logins"])


@pytest.fixture
def store_url() -> str:
    """Named by each test."""
    return "memory:"


@pytest.fixture(autouse=True)
def _told_nothing() -> Iterator[None]:
    yield
    StumblingStore.left.clear()


@pytest.mark.parametrize("headers", [{}, STRICT], ids=["lenient", "strict"])
@pytest.mark.parametrize(
    "point", ["begin", "claim", "append", "record", "count", "savepoint", "release", "commit"]
)
async def test_what_a_driver_raises_is_a_failure_of_the_store(
    start: Start, point: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(PLUGINS, store="stumbles:")
    assert (await publish(client, event("old")))[0] == 200
    StumblingStore.left.update({point: 1, "reopen": 1, "counters": 1})
    status, problem = await publish(client, *BATCH, **headers)
    if point in ("savepoint", "release") and not headers:  # there is none around lenient ones
        assert status == 200
        StumblingStore.left.clear()
    else:
        assert status == 503
        assert (
            problem["detail"] == "the store raised InterfaceError; the log of the service says more"
        )
        assert f"InterfaceError: {point} stumbled" in caplog.text
        await until_ready(client)
        assert "InterfaceError: reopen stumbled" in caplog.text
        assert "InterfaceError: counters stumbled" in caplog.text
        status, answer = await publish(client, *BATCH)
        assert [one["status"] for one in answer["results"]] == ["stored", "duplicate", "duplicate"]
    await check_that_all_came_back(client)


async def test_driver_error_beside_a_fault_of_a_stage_is_no_fault_of_the_stage(
    start: Start,
) -> None:
    client = await start(PLUGINS, store="stumbles:", pipeline="validate | dedup odd persist")
    assert (await publish(client, event("old")))[0] == 200
    StumblingStore.left["savepoint"] = 1  # in which the submission is replayed
    bad = event("bad", payload={"is": "bad"})
    assert (await publish(client, bad))[0] == 503
    await until_ready(client)
    assert (await publish(client, bad))[0] == 500
    assert (await publish(client, *BATCH))[0] == 200
    await check_that_all_came_back(client)


@pytest.mark.parametrize("headers", [{}, STRICT], ids=["lenient", "strict"])
@pytest.mark.parametrize("point", ["begin", "claim", "append", "record", "count", "commit"])
async def test_batch_is_run_again_where_the_store_asks_for_it(
    start: Start, point: str, headers: dict[str, str]
) -> None:
    Remembers.memory.clear()
    client = await start(PLUGINS, store="again:", pipeline="validate | dedup effects persist")
    assert (await publish(client, event("old")))[0] == 200
    AsksForAnotherTry.left[point] = 3
    status, answer = await publish(client, *BATCH, **headers)
    assert status == 200
    assert [one["status"] for one in answer["results"]] == ["stored", "duplicate", "duplicate"]
    assert AsksForAnotherTry.left[point] == 0
    assert Remembers.memory == ["old", "new"]
    await check_that_all_came_back(client)


async def test_store_that_asks_too_often_has_failed(start: Start) -> None:
    client = await start(PLUGINS, store="again:")
    assert (await publish(client, event("old")))[0] == 200
    AsksForAnotherTry.left["commit"] = 10
    status, problem = await publish(client, *BATCH)
    assert (status, problem["detail"]) == (503, "commit stumbled")
    await until_ready(client)
    assert (await publish(client, *BATCH))[0] == 200
    await check_that_all_came_back(client)


LATER = {"Prefer": "respond-async"}


async def until_settled(client: Client) -> None:
    async with asyncio.timeout(10):
        while (await stats(client))["queue_size_current"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("failures", [0, 1], ids=["at once", "once quarantine takes it"])
async def test_what_the_store_never_takes_is_set_aside_and_the_others_go_on(
    start: Start, failures: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(PLUGINS, store="stumbles:")
    StumblingStore.left["quarantine"] = failures
    answers = await asyncio.gather(
        publish(client, event("old"), **LATER),
        publish(client, event("poison", source="poison"), event("beside"), **LATER),
        publish(client, event("new"), **LATER),
    )
    assert [status for status, _ in answers] == [202, 202, 202]
    await until_settled(client)
    assert (await publish(client, event("new")))[0] == 200
    found = await stats(client)
    assert (found["unique_processed"], found["failed_async"], found["quarantined"]) == (2, 2, 2)
    async with client.get("/quarantine") as response:
        kept = (await response.json())["quarantined"]
    assert [entry["body"]["event_id"] for entry in kept] == ["poison", "beside"]
    assert "is lost" not in caplog.text
    await check_that_all_came_back(client)


async def test_what_quarantine_never_takes_is_kept_until_the_stop_and_then_said_to_be_lost(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(PLUGINS, store="stumbles:")
    StumblingStore.left["quarantine"] = 10**9
    assert (await publish(client, event("poison", source="poison"), **LATER))[0] == 202
    async with asyncio.timeout(10):
        while "quarantine stumbled" not in caplog.text:
            await asyncio.sleep(0.01)
    assert "is lost" not in caplog.text
    async with asyncio.timeout(10):
        await client.close()
    assert "was answered 202 and is lost, with 1 events" in caplog.text


async def test_transaction_that_can_do_less_than_its_store_says_is_no_silent_loss(
    start: Start,
) -> None:
    client = await start(PLUGINS, store="says:", on_invalid="quarantine")
    assert (await publish(client, event("1")))[0] == 200
    for again in (event("1"), event("")):
        status, problem = await publish(client, again)
        assert status == 503
        assert "as its store says" in problem["detail"]
        await until_ready(client)
    assert (await publish(client, event("2")))[0] == 200
    assert (await stats(client))["received_total"] == 2


async def test_what_fails_again_and_again_is_tried_at_longer_and_longer_intervals(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(PLUGINS, store="says:", on_invalid="quarantine")
    assert (await publish(client, event(""), **LATER))[0] == 202
    await asyncio.sleep(1)
    assert 1 <= caplog.text.count("the store is back") < 10
    await client.close()
    assert "is lost" in caplog.text


async def test_publishers_are_served_beside_what_the_store_takes_in_no_form(start: Start) -> None:
    client = await start(PLUGINS, store="stumbles:")
    StumblingStore.left["quarantine"] = 10**9
    assert (await publish(client, event("poison", source="poison"), **LATER))[0] == 202
    for number in range(40):
        await until_ready(client)
        while (await publish(client, event(str(number))))[0] != 200:  # told so as it was retried
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
    found = await stats(client)
    assert (found["unique_processed"], found["queue_size_current"]) == (40, 1)
    StumblingStore.left.clear()
    await until_settled(client)
    assert (await stats(client))["quarantined"] == 1


async def test_what_fails_beside_others_is_stored_once_the_store_is_well(start: Start) -> None:
    client = await start(PLUGINS, store="stumbles:")
    StumblingStore.left["begin"] = 4  # whatever is in the transaction
    assert (await publish(client, event("old"), **LATER))[0] == 202
    await until_settled(client)
    assert (await publish(client, *BATCH))[0] == 200
    found = await stats(client)
    assert (found["unique_processed"], found["failed_async"], found["quarantined"]) == (2, 0, 0)
    await check_that_all_came_back(client)


async def test_what_fails_until_the_stop_is_said_to_be_lost(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StumblingStore, "error", StoreError)
    client = await start(PLUGINS, store="stumbles:")
    StumblingStore.left["commit"] = 10**9
    assert (await publish(client, event("1"), **LATER))[0] == 202
    async with asyncio.timeout(15):
        await client.close()
    assert "was answered 202 and is lost, with 1 events: commit stumbled" in caplog.text


async def test_store_that_answers_with_too_little_is_at_fault_itself(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start(PLUGINS, store="stumbles:")

    async def nothing(*_: Any) -> list[int]:
        return []

    for call in ("claim", "append"):
        with monkeypatch.context() as patched:
            patched.setattr(StumblingTransaction, call, nothing)
            status, problem = await publish(client, *BATCH)
        assert status == 503
        assert "the store answered with 0" in problem["detail"]
        await until_ready(client)
    assert (await publish(client, *BATCH))[0] == 200


async def test_going_aside_is_no_faster_where_it_fails_in_a_way_of_its_own(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(StumblingStore, "error", StoreError)
    client = await start(PLUGINS, store="stumbles:")
    StumblingStore.left["quarantine"] = 10**9
    assert (await publish(client, event("poison", source="poison"), **LATER))[0] == 202
    await asyncio.sleep(1)
    assert 3 < caplog.text.count("the store is back") < 10
    StumblingStore.left.clear()


async def test_what_is_good_is_stored_at_the_stop_beside_what_is_lost(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(PLUGINS, store="stumbles:")
    StumblingStore.left["quarantine"] = 10**9
    assert client.app
    store = client.app[STORE]
    await asyncio.gather(
        publish(client, event("poison", source="poison"), **LATER),
        *(publish(client, event(str(number)), **LATER) for number in range(3)),
    )
    await client.close()
    assert caplog.text.count("is lost") == 1
    found = (await store.events(Query())).events
    assert sorted(one.event_id for one in found) == ["0", "1", "2"]
