"""One key is stored once, whoever sends it, however often, at whatever moment."""

import asyncio
from collections import Counter

import pytest

from conftest import Client, Start
from events import event

PUBLISHERS = 64

pytestmark = pytest.mark.every_store


async def verdicts(client: Client, *events: object) -> list[dict[str, object]]:
    async with client.post("/publish", json=list(events)) as response:
        assert response.status == 200
        results: list[dict[str, object]] = (await response.json())["results"]
        return results


async def test_of_64_publishers_at_the_same_instant_one_stores(client: Client) -> None:
    answers = await asyncio.gather(*(verdicts(client, event("same")) for _ in range(PUBLISHERS)))
    statuses = Counter(result["status"] for results in answers for result in results)
    assert statuses == {"stored": 1, "duplicate": PUBLISHERS - 1}
    assert {result["seq"] for results in answers for result in results} == {1}


async def test_twins_in_one_submission_are_told_apart(client: Client) -> None:
    other = event("1", payload={"user": "bob"})
    results = await verdicts(client, event("1"), event("1"), other, event("2"), event("1"))
    assert [result["status"] for result in results] == [
        "stored",
        "duplicate",
        "conflict",
        "stored",
        "duplicate",
    ]
    assert [result["seq"] for result in results] == [1, 1, 1, 2, 1]


async def test_retry_that_overlaps_an_earlier_submission_is_answered_event_by_event(
    client: Client,
) -> None:
    await verdicts(client, *(event(one) for one in ("1", "3", "7")))
    results = await verdicts(client, *(event(one) for one in ("2", "7", "14")))
    assert [result["status"] for result in results] == ["stored", "duplicate", "stored"]
    assert [result["seq"] for result in results] == [4, 3, 5]


async def test_same_id_on_another_topic_is_another_event(client: Client) -> None:
    alike = [event("1", "a"), event("1", "b"), event("1a", "b"), event("a", "b1")]
    results = await verdicts(client, *alike)
    assert [result["status"] for result in results] == ["stored"] * 4


async def test_events_of_one_request_get_seqs_in_their_order(client: Client) -> None:
    results = await verdicts(client, *(event(str(number)) for number in range(500)))
    assert [result["seq"] for result in results] == list(range(1, 501))


async def test_full_queue_refuses_what_it_cannot_take(start: Start) -> None:
    client = await start(max_events=2, queue_events=2)

    async def publish(number: int) -> tuple[int, str | None]:
        body = [event(f"{number}-a"), event(f"{number}-b")]
        async with client.post("/publish", json=body) as response:
            return response.status, response.headers.get("Retry-After")

    answers = await asyncio.gather(*(publish(number) for number in range(50)))
    assert (503, "1") in answers
    taken = sum(1 for status, _ in answers if status == 200)
    assert taken + answers.count((503, "1")) == len(answers)
    async with client.get("/stats") as response:
        stats = await response.json()
    assert stats["unique_processed"] == 2 * taken
    assert stats["received_total"] == 2 * taken
    assert stats["queue_size_current"] == 0


async def test_bytes_under_way_are_bounded_too(start: Start) -> None:
    client = await start(max_event=1000, max_body=1000, queue_bytes=1000, client_share=1)
    body = [event("1", payload={"filler": "x" * 600})]

    async def publish() -> int:
        async with client.post("/publish", json=body) as response:
            return response.status

    statuses = Counter(await asyncio.gather(*(publish() for _ in range(20))))
    assert set(statuses) == {200, 503}
