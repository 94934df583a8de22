"""`Prefer: handling=strict`: all of a submission is taken, or nothing of it."""

import asyncio
from typing import Any

import pytest
from bodies import PROBLEM, get, publish, stored_ids

from aggregator.event import Submission
from aggregator.pipeline.batch import BatchItem, batches
from conftest import Client, Start
from events import event


async def strict(client: Client, *events: dict[str, Any], prefer: str = "handling=strict") -> Any:
    """Status, statuses of the events, and the answer."""
    async with client.post("/publish", json=list(events), headers={"Prefer": prefer}) as response:
        answer = await response.json(content_type=None)
        assert response.headers["Preference-Applied"] == "handling=strict"
        assert (response.status >= 400) == (response.content_type == PROBLEM)
        return response.status, [result["status"] for result in answer["results"]], answer


async def test_good_events_are_stored_together(client: Client) -> None:
    status, statuses, answer = await strict(client, event("1"), event("2"))
    assert (status, statuses, answer["refused"]) == (200, ["stored", "stored"], 0)
    assert await stored_ids(client) == ["1", "2"]


@pytest.mark.every_store
async def test_one_invalid_event_refuses_all(client: Client) -> None:
    status, statuses, answer = await strict(client, event("1"), event("2", topic=""), event("3"))
    assert (status, statuses) == (422, ["refused", "invalid", "refused"])
    assert answer["results"][1]["errors"][0]["pointer"] == "/topic"
    assert (answer["received"], answer["stored"], answer["refused"]) == (3, 0, 2)
    assert await stored_ids(client) == []
    stats = await get(client, "/stats")
    assert (stats["received_total"], stats["refused"], stats["invalid"]) == (3, 2, 1)
    assert stats["processed_topics"] == []


@pytest.mark.every_store
async def test_one_conflict_refuses_all_and_is_told(client: Client) -> None:
    await strict(client, event("2"))
    status, statuses, answer = await strict(
        client, event("1"), event("2", payload={"user": "eve"}), event("3")
    )
    assert (status, statuses) == (409, ["refused", "conflict", "refused"])
    assert answer["results"][1]["differences"] == ["/payload/user"]
    assert await stored_ids(client) == ["2"]


async def test_every_reason_is_told_and_the_invalid_one_decides(client: Client) -> None:
    await strict(client, event("1"))
    other = event("1", payload={"user": "eve"})
    status, statuses, _ = await strict(client, other, event("2", source=""), event("3"))
    assert (status, statuses) == (422, ["conflict", "invalid", "refused"])


async def test_duplicates_never_block(client: Client) -> None:
    await strict(client, event("1"), event("2"))
    again, statuses, _ = await strict(client, event("1"), event("2"))
    assert (again, statuses) == (200, ["duplicate", "duplicate"])
    more, statuses, _ = await strict(client, event("2"), event("3"))
    assert (more, statuses) == (200, ["duplicate", "stored"])


async def test_duplicate_beside_a_bad_event_is_a_duplicate_still(client: Client) -> None:
    await strict(client, event("1"))
    status, statuses, _ = await strict(client, event("1"), event("2", topic=""))
    assert (status, statuses) == (422, ["duplicate", "invalid"])


async def test_twin_of_a_refused_event_is_refused_too(client: Client) -> None:
    status, statuses, _ = await strict(client, event("1"), event("1"), event("2", topic=""))
    assert (status, statuses) == (422, ["refused", "refused", "invalid"])


async def test_events_of_one_request_that_conflict_refuse_it(client: Client) -> None:
    status, statuses, answer = await strict(client, event("1"), event("1", payload={}))
    assert (status, statuses) == (409, ["refused", "conflict"])
    assert answer["results"][1]["seq"] is None
    assert "this request" in answer["results"][1]["detail"]
    assert await stored_ids(client) == []
    assert (await get(client, "/stats"))["processed_topics_total"] == 0


async def test_single_conflict_is_409_when_strict(client: Client) -> None:
    await strict(client, event("1"))
    status, statuses, _ = await strict(client, event("1", payload={}))
    assert (status, statuses) == (409, ["conflict"])


async def test_refused_event_is_new_afterwards(client: Client) -> None:
    await strict(client, event("1"), event("2", topic=""))
    status, statuses, _ = await strict(client, event("1", payload={"other": 1}))
    assert (status, statuses) == (200, ["stored"])


async def test_duplicates_of_a_refused_submission_are_remembered(client: Client) -> None:
    await strict(client, event("1"))
    await strict(client, event("1"), event("2", topic=""))
    stats = await get(client, "/stats")
    assert (stats["duplicate_dropped"], stats["received_total"]) == (1, 3)


async def test_respond_async_is_passed_over_when_strict(client: Client) -> None:
    status, statuses, _ = await strict(client, event("1"), prefer="respond-async, handling=strict")
    assert (status, statuses) == (200, ["stored"])


@pytest.mark.every_store
async def test_strict_and_lenient_neighbours_never_share_a_fate(start: Start) -> None:
    client = await start(stage_timeout=60)

    async def lenient(number: int) -> Any:
        return await publish(client, f"[{_spelled('shared')},{_spelled(f'own-{number}')}]")

    bad = [event("shared"), event("bad", topic="")]
    answers = await asyncio.gather(
        *(strict(client, *bad) if number % 2 else lenient(number) for number in range(40))
    )
    for status, statuses, _ in answers[1::2]:
        assert status == 422
        assert statuses in (["refused", "invalid"], ["duplicate", "invalid"])
    shared = [answer["results"][0]["status"] for _, answer in answers[::2]]
    assert sorted(shared) == ["duplicate"] * 19 + ["stored"]
    assert sorted(await stored_ids(client)) == sorted(
        ["shared", *(f"own-{number}" for number in range(0, 40, 2))]
    )


async def test_strict_submissions_wait_for_the_lenient_ones_beside_them() -> None:
    submissions = [Submission(str(number), [], is_strict=number % 2 == 1) for number in range(6)]
    together = batches([BatchItem.of(submission) for submission in submissions])
    ids = [[part.submission.id for part in batch] for batch in together]
    assert ids == [["0", "2", "4"], ["1"], ["3"], ["5"]]


@pytest.mark.parametrize(
    "prefer", ["handling=strict", 'Handling="strict"; x=1', "x, handling=STRICT"]
)
async def test_preference_may_be_spelled_in_many_ways(client: Client, prefer: str) -> None:
    status, _, _ = await strict(client, event("1"), event("2", topic=""), prefer=prefer)
    assert status == 422


def _spelled(event_id: str) -> str:
    from json import dumps

    return dumps(event(event_id))
