"""`GET /events/{topic}/{event_id}/explain`: who sent an event, how often, and what differed."""

from typing import Any

import pytest
from bodies import get
from stored import cloud_event, store

from aggregator.core.identity import digest_of
from conftest import Client, Start
from events import event

PATH = "/events/logins/1/explain"


async def _publish(client: Client, **members: Any) -> None:
    async with client.post("/publish", json=event(**members)) as response:
        assert response.status == 200


async def _come(client: Client) -> None:
    """The first one, four duplicates from two sources in time, and conflicts."""
    await _publish(client)
    await _publish(client)
    await _publish(client, payload={"user": "bob"})
    await _publish(client, payload={"user": "bob"})
    await _publish(client, source="other")
    await _publish(client)


def _check(told: dict[str, Any], received_at: str) -> None:
    times = [told.pop("first_seen_at"), told.pop("last_seen_at")]
    assert times[0] == received_at < times[1]
    for one in (*told["sources"], *told["conflicting"]):
        assert times[0] <= one.pop("first_seen_at") <= one.pop("last_seen_at") <= times[1]
    bob = digest_of("tests", b'{"user": "bob"}').hex()
    other = digest_of("other", b'{"user": "ada"}').hex()
    assert told == {
        "seq": 1,
        "topic": "logins",
        "event_id": "1",
        "times": 6,
        "duplicates": 2,
        "conflicts": 3,
        "sources": [
            {"source": "tests", "times": 5, "duplicates": 2, "conflicts": 2},
            {"source": "other", "times": 1, "duplicates": 0, "conflicts": 1},
        ],
        "sources_cut": False,
        "conflicting": [
            {"digest": bob, "differences": ["/payload/user"], "source": "tests", "times": 2},
            {"digest": other, "differences": ["/source"], "source": "other", "times": 1},
        ],
        "conflicting_cut": False,
    }


@pytest.mark.every_store
async def test_what_came_again_is_told_with_what_differed(client: Client) -> None:
    await _come(client)
    received_at = (await get(client, "/events/logins/1"))["received_at"]
    _check(await get(client, PATH), received_at)


async def test_event_that_came_once_is_told_so(client: Client) -> None:
    await _publish(client)
    received_at = (await get(client, "/events/logins/1"))["received_at"]
    seen = {"first_seen_at": received_at, "last_seen_at": received_at}
    source = {"source": "tests", "times": 1, "duplicates": 0, "conflicts": 0, **seen}
    told = await get(client, PATH)
    assert (told["times"], told["sources"], told["conflicting"]) == (1, [source], [])
    assert {name: told[name] for name in seen} == seen


async def test_it_is_still_known_after_a_restart(start: Start) -> None:
    client = await start()
    await _come(client)
    received_at = (await get(client, "/events/logins/1"))["received_at"]
    await client.close()
    client = await start()
    await _publish(client)
    told = await get(client, PATH)
    assert (told["times"], told["duplicates"], told["first_seen_at"]) == (7, 3, received_at)
    told["times"], told["duplicates"] = 6, 2
    told["sources"][0]["times"], told["sources"][0]["duplicates"] = 5, 2
    _check(told, received_at)


@pytest.mark.every_store
async def test_contents_beyond_those_remembered_are_counted_and_said_to_be_cut(
    client: Client,
) -> None:
    await _publish(client)
    rivals = [event(payload={"rival": number}) for number in range(101)]
    await client.post("/publish", json=rivals)
    told = await get(client, PATH)
    assert (told["conflicts"], len(told["conflicting"])) == (101, 100)
    assert (told["conflicting_cut"], told["sources_cut"]) == (True, False)


@pytest.mark.parametrize(("count", "is_cut"), [(1000, False), (1001, True)])
async def test_sources_are_said_to_be_cut_where_there_are_more(
    client: Client, count: int, is_cut: bool
) -> None:
    await _publish(client)
    await client.post("/publish", json=[event(source=f"s{number:04}") for number in range(count)])
    told = await get(client, PATH)
    assert (len(told["sources"]), told["sources_cut"]) == (1001, is_cut)


async def test_one_of_several_is_picked_as_where_it_is_read(client: Client) -> None:
    await store(client, cloud_event("1", source="/a"), cloud_event("1", source="/b"))
    async with client.get("/events/readings/1/explain") as response:
        assert response.status == 300
        hrefs = [choice["href"] for choice in (await response.json())["choices"]]
    assert hrefs == [f"/events/readings/1/explain?seq={seq}" for seq in (1, 2)]
    assert [(await get(client, href))["seq"] for href in hrefs] == [1, 2]
    assert (await get(client, "/events/readings/1/explain?source=/b"))["seq"] == 2


async def test_event_that_is_not_stored_has_nothing_to_explain(client: Client) -> None:
    async with client.get(PATH) as response:
        assert response.status == 404
