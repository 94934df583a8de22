"""What fails after a 202 is kept in quarantine, counted and logged: never lost in silence."""

import asyncio
import logging
from typing import Any

import pytest

from added import with_plugin, with_stages
from aggregator.app import STORE
from aggregator.plugins import STORES, Plugins
from aggregator.store import Query
from conftest import Client, Start
from events import event
from failing import FailingStore

RAISING = with_stages(raises="misbehaving:Raises")
PIPELINE = "validate | raises dedup persist"
FAILING = Plugins([*RAISING.found, with_plugin(STORES, "failing", "failing:FailingStore")])


async def later(client: Client, *events: dict[str, Any]) -> str:
    """Publish with respond-async; returns the id of the submission."""
    headers = {"Prefer": "respond-async"}
    async with client.post("/publish", json=list(events), headers=headers) as response:
        answer = await response.json()
        assert response.status == 202, answer
        assert response.headers["Preference-Applied"] == "respond-async"
        assert answer["received"] == len(events)
        submission: str = answer["submission"]
        return submission


async def get(client: Client, path: str) -> Any:
    async with client.get(path) as response:
        assert response.status == 200
        return await response.json()


async def stored_ids(client: Client) -> list[str]:
    return [one["event_id"] for one in (await get(client, "/events"))["events"]]


async def settled(client: Client) -> dict[str, Any]:
    """The stats once nothing is under way."""
    async with asyncio.timeout(10):
        while True:
            stats = await get(client, "/stats")
            if stats["queue_size_current"] == 0:
                return stats
            await asyncio.sleep(0.01)


async def test_good_events_are_stored_soon(client: Client) -> None:
    await later(client, event("1"), event("2"))
    stats = await settled(client)
    assert (stats["unique_processed"], stats["failed_async"]) == (2, 0)


async def test_invalid_event_goes_into_quarantine_whatever_the_setting(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        submission = await later(client, event("1"), event("2", topic=""), event("3"))
        stats = await settled(client)
    assert await stored_ids(client) == ["1", "3"]
    assert (stats["invalid"], stats["failed_async"], stats["quarantined"]) == (1, 1, 1)
    assert stats["received_total"] == 3
    (entry,) = (await get(client, f"/quarantine?submission={submission}"))["quarantined"]
    assert (entry["reason"], entry["body"]) == ("invalid", event("2", topic=""))
    assert submission in caplog.text


async def test_rejected_conflict_goes_into_quarantine_and_a_kept_one_does_not(
    start: Start,
) -> None:
    for on_conflict, expected in (("reject", 1), ("keep-first", 0)):
        client = await start(store="memory:", on_conflict=on_conflict)
        await later(client, event("1"))
        await later(client, event("1", payload={}))
        stats = await settled(client)
        assert (stats["conflicts"], stats["failed_async"]) == (1, expected)
        assert stats["quarantined"] == expected


async def test_what_a_stage_fails_on_is_kept_and_can_be_released(
    start: Start, tmp_path: Any
) -> None:
    store = f"sqlite:///{tmp_path}/released.db"
    client = await start(RAISING, store=store, pipeline=PIPELINE)
    bad = event("1", payload={"bad": "bad"})
    submission, _ = await asyncio.gather(later(client, bad, event("2")), later(client, event("3")))
    stats = await settled(client)
    assert await stored_ids(client) == ["3"]
    assert (stats["failed_async"], stats["quarantined"], stats["received_total"]) == (2, 2, 1)
    await client.close()

    mended = await start(store=store)
    entries = (await get(mended, "/quarantine?reason=failed"))["quarantined"]
    assert [entry["body"] for entry in entries] == [bad, event("2")]
    assert {entry["submission"] for entry in entries} == {submission}
    assert "raises" in entries[0]["errors"][0]["detail"]
    async with mended.post(f"/quarantine/release?submission={submission}") as response:
        answer = await response.json()
    assert (response.status, answer["stored"], answer["next"]) == (200, 2, None)
    assert await stored_ids(mended) == ["3", "1", "2"]
    assert (await get(mended, "/stats"))["quarantined"] == 0


async def test_what_an_intake_stage_fails_on_is_not_accepted(start: Start) -> None:
    stages = with_stages(raises="misbehaving:RaisesOnIntake")
    client = await start(stages, pipeline="validate raises | dedup persist")
    headers = {"Prefer": "respond-async"}
    bad = event("1", payload={"bad": "bad"})
    async with client.post("/publish", json=bad, headers=headers) as response:
        assert response.status == 500


@pytest.mark.parametrize("point", ["begin", "commit", "fsync"])
async def test_what_was_accepted_waits_for_a_store_that_failed(start: Start, point: str) -> None:
    client = await start(FAILING, store="failing:")
    FailingStore.failures.update({point: 2, "reopen": 2})
    await later(client, event("1"), event("2", topic=""))
    stats = await settled(client)
    assert await stored_ids(client) == ["1"]
    assert stats["quarantined"] >= 1


async def test_what_is_lost_when_the_service_stops_without_its_store_is_logged(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(FAILING, store="failing:")
    FailingStore.failures.update(begin=1, reopen=1000)
    submission = await later(client, event("1"))
    await client.close()
    assert f"submission {submission} was answered 202 and is lost" in caplog.text


async def test_what_was_accepted_is_stored_at_a_stop_if_the_store_comes_back(
    start: Start,
) -> None:
    client = await start(FAILING, store="failing:")
    FailingStore.failures.update(commit=1)
    store = client.app[STORE]
    await later(client, event("1"))
    await client.close()
    assert [found.event_id for found in (await store.events(Query())).events] == ["1"]


async def test_neighbours_of_slow_events_are_stored_all_the_same(start: Start) -> None:
    stages = with_stages(hangs="misbehaving:Hangs")
    client = await start(stages, pipeline="validate | hangs dedup persist", stage_timeout=0.05)
    bad = {"bad": "bad"}
    await asyncio.gather(
        *(later(client, event(f"bad {number}", payload=bad)) for number in range(6)),
        *(later(client, event(f"good {number}")) for number in range(6)),
    )
    stats = await settled(client)
    assert (stats["unique_processed"], stats["failed_async"], stats["quarantined"]) == (6, 6, 6)


async def test_slow_events_are_given_up_in_bounded_time(start: Start) -> None:
    stages = with_stages(hangs="misbehaving:Hangs")
    client = await start(stages, pipeline="validate | hangs dedup persist", stage_timeout=0.05)
    bad = {"bad": "bad"}
    await asyncio.gather(*(later(client, event(f"{n}", payload=bad)) for n in range(40)))
    async with client.post("/publish", json=event("good")) as response:
        assert response.status in (200, 503)
    stats = await settled(client)
    assert (stats["failed_async"], stats["quarantined"]) == (40, 40)


async def test_what_the_intake_refused_keeps_its_reason_beside_a_stages_fault(
    start: Start,
) -> None:
    client = await start(RAISING, pipeline=PIPELINE)
    await later(client, event("1", payload={"bad": "bad"}), event("2", topic=""))
    await settled(client)
    entries = (await get(client, "/quarantine"))["quarantined"]
    assert [entry["reason"] for entry in entries] == ["failed", "invalid"]


async def test_words_of_an_error_are_cut_and_can_be_sent_on(start: Start) -> None:
    stages = with_stages(quotes="misbehaving:QuotesItsInput")
    client = await start(stages, pipeline="validate | quotes dedup persist")
    async with client.post("/publish", json=event("1")) as response:
        assert response.status == 500
        assert len((await response.json(content_type=None))["detail"]) < 700
    await later(client, event("1"))
    await settled(client)
    (entry,) = (await get(client, "/quarantine"))["quarantined"]
    assert r"\udcff" in entry["errors"][0]["detail"]


async def test_invalid_event_without_a_fault_is_the_stages_fault(start: Start) -> None:
    stages = with_stages(blames="misbehaving:BlamesForNothing")
    client = await start(stages, pipeline="validate blames | dedup persist")
    headers = {"Prefer": "respond-async"}
    async with client.post("/publish", json=event("1"), headers=headers) as response:
        assert response.status == 500
    assert (await get(client, "/readyz")) == {"status": "ready"}


async def test_full_queue_is_said_and_nothing_is_accepted(start: Start) -> None:
    client = await start(max_events=2, queue_events=2)
    headers = {"Prefer": "respond-async"}
    async with client.post("/publish", json=[event("1")] * 3, headers=headers) as response:
        assert response.status == 413
