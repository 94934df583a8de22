"""`GET /topics`: which topics there are, and what is stored on them."""

import pytest
from bodies import PROBLEM, get
from yarl import URL

from conftest import Client
from events import event


@pytest.mark.every_store
async def test_topics_are_told_with_counts_and_their_first_and_last_event(client: Client) -> None:
    await client.post("/publish", json=[event("1", "b"), event("2", "a"), event("3", "b")])
    await client.post("/publish", json=[event("1", "b"), event("3", "b", source="other")])
    told = await get(client, "/topics")
    events = {found["seq"]: found for found in (await get(client, "/events"))["events"]}

    def at(seq: int) -> dict[str, object]:
        return {"seq": seq, "received_at": events[seq]["received_at"]}

    a = {"topic": "a", "stored": 1, "duplicates": 0, "conflicts": 0, "first": at(2), "last": at(2)}
    b = {"topic": "b", "stored": 2, "duplicates": 1, "conflicts": 1, "first": at(1), "last": at(3)}
    assert told == {"topics": [a, b], "next": None}


NAMES = ["", "a&b=c", 'é"<>;,', "%2F", "x/y", "z z", "\U0001f600"]


@pytest.mark.every_store
async def test_cursor_and_link_walk_all_topics_whatever_their_names(client: Client) -> None:
    names = sorted(filter(None, NAMES))
    await client.post("/publish", json=[event("1", name) for name in names])
    for limit in (1, 2, 6, 7):
        seen, following = [], f"/topics?limit={limit}"
        while following:
            async with client.get(URL(following, encoded=True)) as response:
                page = await response.json()
                seen += [topic["topic"] for topic in page["topics"]]
                link = response.headers.get("Link", "")
                assert page["next"] == (seen[-1] if link else None)
                following = link and "/topics" + link.removeprefix("<").removesuffix(
                    '>; rel="next"'
                )
        assert seen == names


@pytest.mark.parametrize("arguments", ["limit=0", "limit=1001", "limit=x", "order=asc"])
async def test_bad_argument_is_refused(client: Client, arguments: str) -> None:
    async with client.get(f"/topics?{arguments}") as response:
        assert (response.status, response.content_type) == (400, PROBLEM)


async def test_where_nothing_is_stored_there_are_no_topics(client: Client) -> None:
    assert await get(client, "/topics") == {"topics": [], "next": None}
