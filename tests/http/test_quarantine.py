"""`/quarantine`: what was not stored is kept beside, read, released and dropped."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from bodies import array, get, publish, spelled, stored_ids

from added import with_stages
from aggregator.cli.change_key import change_key
from aggregator.store import MOST_EVICTED
from aggregator_sqlite.store import SqliteStore
from conftest import Client, Start
from events import event


@pytest.fixture
async def keeping(start: Start) -> Client:
    """The app that keeps invalid events."""
    return await start(on_invalid="quarantine", on_conflict="quarantine")


async def _entries(client: Client, arguments: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await get(client, f"/quarantine{arguments}"))["quarantined"]
    return found


async def _call(client: Client, method: str, path: str) -> tuple[int, Any]:
    async with client.request(method, path) as response:
        text = await response.read()
        return response.status, await response.json(content_type=None) if text else None


async def test_invalid_events_are_refused_and_forgotten_by_default(client: Client) -> None:
    await publish(client, spelled(topic="5"))
    assert await _entries(client) == []
    assert (await get(client, "/stats"))["quarantined"] == 0


async def test_invalid_event_is_refused_and_kept_with_the_reason(keeping: Client) -> None:
    status, answer = await publish(keeping, spelled(topic='""', payload="7"))
    assert status == 422
    (entry,) = await _entries(keeping)
    assert re.fullmatch("[0-9a-f]{32}", entry.pop("submission"))
    assert entry.pop("kept_at").endswith("Z")
    assert entry["errors"] == answer["results"][0]["errors"]
    assert entry["body"]["payload"] == 7
    assert (entry["id"], entry["reason"], entry["event_id"]) == (1, "invalid", "1")
    assert await get(keeping, "/quarantine/1") == await get(keeping, f"/quarantine/{entry['id']}")
    assert (await get(keeping, "/stats"))["quarantined"] == 1


@pytest.mark.parametrize("body", [b'{"topic":"\xff"}', b'{"a":NaN}', b"no JSON", b'"\\ud800"'])
async def test_what_is_no_json_is_kept_byte_for_byte(keeping: Client, body: bytes) -> None:
    await publish(keeping, b"[" + spelled() + b"," + body + b"]")
    (entry,) = await _entries(keeping)
    assert base64.b64decode(entry["body_base64"]) == body
    assert "body" not in entry


async def test_released_conflict_that_is_one_still_stays_as_it_was(start: Start) -> None:
    client = await start(on_conflict="quarantine")
    await publish(client, spelled(payload='{"a":1}'))
    await publish(client, spelled(payload='{"a":2}'))
    status, answer = await _call(client, "POST", "/quarantine/1/release")
    assert (status, answer["results"][0]["status"]) == (200, "conflict")
    assert len(await _entries(client)) == 1


async def test_released_event_that_is_bad_still_stays_as_it_was(keeping: Client) -> None:
    await publish(keeping, spelled(topic="5"))
    before = await _entries(keeping)
    status, answer = await _call(keeping, "POST", "/quarantine/1/release")
    assert status == 422
    assert (answer["results"][0]["status"], answer["results"][0]["quarantine_id"]) == ("invalid", 1)
    assert await _entries(keeping) == before


async def test_dropped_event_is_gone(keeping: Client) -> None:
    await publish(keeping, spelled(topic="5"))
    assert await _call(keeping, "DELETE", "/quarantine/1") == (204, None)
    assert await _entries(keeping) == []
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/release")):
        assert (await _call(keeping, method, f"/quarantine/1{path}"))[0] == 404
    assert (await get(keeping, "/stats"))["quarantined"] == 0


@pytest.mark.every_store
async def test_ids_are_never_given_again(keeping: Client) -> None:
    for expected in (1, 2):
        await publish(keeping, spelled(topic="5"))
        assert [entry["id"] for entry in await _entries(keeping)] == [expected]
        await _call(keeping, "DELETE", "/quarantine?after=0")


async def _fill(client: Client) -> None:
    """Conflicts on two topics, and two invalid events."""
    for topic in ("a", "b"):
        for number in (1, 2, 3):
            await client.post("/publish", json=event("1", topic, payload={"n": number}))
    await client.post("/publish", json=[event("x", "a", source=""), event("y", "b", source="")])


FILTERS = {"?topic=a": 3, "?reason=conflict": 4, "?topic=b&reason=invalid": 1, "?topic=c": 0}


@pytest.mark.every_store
@pytest.mark.parametrize(("arguments", "expected"), FILTERS.items())
async def test_quarantine_is_read_and_dropped_by_filter(
    keeping: Client, arguments: str, expected: int
) -> None:
    await _fill(keeping)
    assert len(await _entries(keeping, arguments)) == expected
    status, answer = await _call(keeping, "DELETE", f"/quarantine{arguments}")
    assert (status, answer) == (200, {"dropped": expected, "next": None})
    assert len(await _entries(keeping)) == 6 - expected


@pytest.mark.every_store
async def test_quarantine_is_walked_page_by_page(keeping: Client) -> None:
    await _fill(keeping)
    ids, after = [], "0"
    while after:
        page = await get(keeping, f"/quarantine?limit=4&after={after}")
        ids += [entry["id"] for entry in page["quarantined"]]
        after = page["next"]
    assert ids == [1, 2, 3, 4, 5, 6]


async def test_release_by_filter_receives_each_anew(start: Start) -> None:
    client = await start(on_invalid="quarantine", key="topic,header:x")
    async with client.post("/publish", json=[event("1"), event("2")]) as response:
        assert response.status == 422, "the header is missing"
    status, answer = await _call(client, "POST", "/quarantine/release?reason=invalid&limit=1")
    assert (status, answer["received"], answer["next"]) == (422, 1, "1")


@pytest.mark.parametrize(("method", "path"), [("POST", "/release"), ("DELETE", "")])
async def test_nothing_is_released_or_dropped_unless_it_is_said_which(
    keeping: Client, method: str, path: str
) -> None:
    await _fill(keeping)
    assert (await _call(keeping, method, f"/quarantine{path}"))[0] == 400
    assert (await _call(keeping, method, f"/quarantine{path}?colour=red"))[0] == 400
    assert len(await _entries(keeping)) == 6


async def test_as_many_are_released_at_once_as_a_submission_may_hold(start: Start) -> None:
    client = await start(on_invalid="quarantine", max_events=20, queue_events=26)
    for _ in range(2):
        await publish(client, array([spelled(topic="5")] * 20))
    status, answer = await _call(client, "POST", "/quarantine/release?after=0")
    assert (status, answer["received"], answer["next"]) == (422, 20, "20")


async def test_event_that_a_stage_fails_on_keeps_no_other_from_being_released(
    start: Start, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/poison.db"
    client = await start(store=store, key="topic,header:x", on_invalid="quarantine")
    bad, good = event("1", payload={"bad": "bad"}), event("2")
    await client.post("/publish", json=[bad, good])
    await client.close()
    stages = with_stages(raises="misbehaving:Raises")
    pipeline = "validate | raises dedup persist"
    # The key no longer needs what was missing, as after `aggregator change-key`.
    await change_key(SqliteStore(store), "topic,event_id", is_agreed=True)
    client = await start(stages, store=store, pipeline=pipeline)
    status, answer = await _call(client, "POST", "/quarantine/release?after=0")
    assert (status, [result["status"] for result in answer["results"]]) == (
        207,
        ["invalid", "stored"],
    )
    assert "raises" in answer["results"][0]["errors"][0]["detail"]
    assert [entry["event_id"] for entry in await _entries(client)] == ["1"]
    assert await stored_ids(client) == ["2"]


@pytest.mark.every_store
async def test_quarantine_keeps_the_newest_when_it_is_full(start: Start) -> None:
    client = await start(on_invalid="quarantine", quarantine_bytes=2000)
    for number in range(20):
        await publish(client, spelled(event_id=f'"{number}"', topic="5"))
    kept = [entry["event_id"] for entry in await _entries(client)]
    assert 3 < len(kept) < 20
    assert kept == [str(number) for number in range(20)][-len(kept) :]
    stats = await get(client, "/stats")
    assert (stats["quarantined"], stats["quarantine_evicted"]) == (len(kept), 20 - len(kept))
    assert (await stored_ids(client), stats["received_total"]) == ([], 20)


async def test_quarantine_is_filled_by_the_headers_of_each_event(start: Start) -> None:
    most, header = 200_000, "x" * 7_000
    client = await start(on_invalid="quarantine", quarantine_bytes=most, key="topic,header:x-id")
    headers = {"Content-Type": "application/json", "X-Id": header}
    for _ in range(2):
        body = b"[" + b",".join([b"1"] * 50) + b"]"
        async with client.post("/publish", data=body, headers=headers) as response:
            assert response.status == 422
    stats = await get(client, "/stats")
    assert 0 < stats["quarantined"] <= most / len(header)
    assert stats["quarantined"] + stats["quarantine_evicted"] == 100


async def test_no_batch_is_so_large_that_quarantine_outgrows_its_bound(start: Start) -> None:
    count = 2 * MOST_EVICTED + 1
    client = await start(
        on_invalid="quarantine",
        quarantine_bytes=1,
        batch_events=count,
        max_events=count,
        client_share=1,
    )
    headers = {"Content-Type": "application/json", "Prefer": "return=minimal"}
    body = b"[" + b",".join([b"1"] * count) + b"]"
    async with client.post("/publish", data=body, headers=headers) as response:
        assert response.status == 422
    stats = await get(client, "/stats")
    assert (stats["quarantined"], stats["quarantine_evicted"]) == (0, count)


@pytest.mark.every_store
async def test_quarantine_lets_go_of_what_is_too_old(start: Start) -> None:
    client = await start(on_invalid="quarantine", quarantine_days=1e-9)
    for _ in range(3):
        await publish(client, spelled(topic="5"))
    assert len(await _entries(client)) <= 1
