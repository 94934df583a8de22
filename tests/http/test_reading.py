"""`GET /events`: filters, limits, order, and cursors that pass over nothing."""

import asyncio
import itertools
from typing import Any
from urllib.parse import urlencode

import pytest
from bodies import PROBLEM, get

from conftest import Client
from events import event


async def _fill(client: Client, count: int = 24) -> None:
    """Events of two topics and three sources, a minute apart."""
    events = [
        event(
            str(number),
            topic="even" if number % 2 == 0 else "odd",
            source=f"source {number % 3}",
            timestamp=f"2026-01-31T12:{number:02}:00Z",
        )
        for number in range(count)
    ]
    async with client.post("/publish", json=events) as response:
        assert (await response.json())["stored"] == count


async def _ids(client: Client, **arguments: Any) -> list[int]:
    page = await get(client, f"/events?{urlencode(arguments)}")
    return [int(found["event_id"]) for found in page["events"]]


async def _walk(client: Client, **arguments: Any) -> list[int]:
    """The ids on all pages, as a reader sees them who follows the cursor to its end."""
    seen: list[int] = []
    following = None
    for _ in range(1000):
        after = {} if following is None else {"after": following}
        page = await get(client, f"/events?{urlencode({**arguments, **after})}")
        seen += [int(found["event_id"]) for found in page["events"]]
        following = page["next"]
        if following is None:
            return seen
    raise AssertionError("the cursor has no end")


FILTERS: dict[str, tuple[dict[str, Any], Any]] = {
    "nothing": ({}, range(24)),
    "topic": ({"topic": "odd"}, range(1, 24, 2)),
    "source": ({"source": "source 1"}, range(1, 24, 3)),
    "since, inclusive": ({"since": "2026-01-31T12:20:00Z"}, range(20, 24)),
    "until, exclusive": ({"until": "2026-01-31T12:03:00Z"}, range(3)),
    "other offset": ({"since": "2026-01-31T14:20:00+02:00"}, range(20, 24)),
    "empty span": ({"since": "2026-01-31T12:03:00Z", "until": "2026-01-31T12:03:00Z"}, ()),
    "all together": (
        {
            "topic": "even",
            "source": "source 0",
            "since": "2026-01-31T12:06:00Z",
            "until": "2026-01-31T12:18:00Z",
        },
        (6, 12),
    ),
    "unknown topic": ({"topic": "none"}, ()),
    "topic in other case": ({"topic": "ODD"}, ()),
    "empty topic": ({"topic": ""}, ()),
    "after": ({"after": 20}, range(20, 24)),
    "after the newest": ({"after": 24}, ()),
    "far after the newest": ({"after": 2**63 - 1}, ()),
}


@pytest.mark.every_store
@pytest.mark.parametrize(("arguments", "expected"), FILTERS.values(), ids=FILTERS)
async def test_filters_choose_events(client: Client, arguments: Any, expected: Any) -> None:
    await _fill(client)
    assert await _ids(client, **arguments) == list(expected)
    if "after" not in arguments:
        backwards = list(reversed(list(expected)))
        assert await _ids(client, order="desc", **arguments) == backwards
        assert await _walk(client, limit=1, **arguments) == list(expected)
        assert await _walk(client, limit=2, order="desc", **arguments) == backwards


@pytest.mark.every_store
async def test_after_counts_in_the_order_asked_for(client: Client) -> None:
    await _fill(client)
    assert await _ids(client, order="desc", after=4) == [2, 1, 0]
    assert await _ids(client, order="desc", after=1) == []
    assert await _ids(client, order="desc", after=0) == []


@pytest.mark.every_store
@pytest.mark.parametrize("limit", [1, 5, 8, 23, 24, 25, 1000])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_cursor_walks_everything_once(client: Client, limit: int, order: str) -> None:
    await _fill(client)
    walked = await _walk(client, limit=limit, order=order)
    assert walked == sorted(walked, reverse=order == "desc")
    assert sorted(walked) == list(range(24))


async def test_page_is_100_events_unless_asked_otherwise(client: Client) -> None:
    events = [event(str(number)) for number in range(101)]
    await client.post("/publish", json=events)
    page = await get(client, "/events")
    assert len(page["events"]) == 100
    assert page["next"].isalnum()
    last = await get(client, f"/events?after={page['next']}")
    assert ([found["event_id"] for found in last["events"]], last["next"]) == (["100"], None)


@pytest.mark.every_store
async def test_full_page_at_the_end_has_no_next(client: Client) -> None:
    await _fill(client, 8)
    assert (await get(client, "/events?limit=8"))["next"] is None
    assert (await get(client, "/events?limit=4&topic=odd&order=desc"))["next"] is None
    assert (await get(client, "/events?limit=1&after=7"))["next"] is None


@pytest.mark.every_store
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_cursor_passes_over_nothing_while_events_arrive(client: Client, order: str) -> None:
    before, rounds = 30, 40
    await client.post("/publish", json=[event(str(number)) for number in range(before)])

    async def arrive() -> None:
        for number in itertools.islice(itertools.count(before), rounds):
            await client.post("/publish", json=event(str(number)))

    arriving = asyncio.create_task(arrive())
    walked = await _walk(client, limit=1, order=order)
    await arriving
    assert len(walked) == len(set(walked))
    assert walked == sorted(walked, reverse=order == "desc")
    assert set(range(before)) <= set(walked)
    if order == "asc":
        assert walked == list(range(len(walked)))
        rest = await _ids(client, after=len(walked))
        assert walked + rest == list(range(before + rounds))


BAD_ARGUMENTS = {
    "limit=0": "limit",
    "limit=1001": "limit",
    "limit=-1": "limit",
    "limit=ten": "limit",
    "limit=": "limit",
    "limit=1.5": "limit",
    "limit=1_0": "limit",
    "limit=%D9%A1": "limit",
    "after=-1": "after",
    "after=x": "after",
    "after=1_0": "after",
    "after=9223372036854775808": "after",
    "after=" + "9" * 5000: "after",
    "order=up": "order",
    "order=": "order",
    "since=yesterday": "since",
    "since=2026-01-31T12:00:00": "since",
    "since=2026-01-31T12:00:00+00:00": "since",
    "until=2026-01-31": "until",
    "until=": "until",
    "colour=red": "colour",
    "topic=a&topic=b": "topic",
}


@pytest.mark.parametrize(("arguments", "name"), BAD_ARGUMENTS.items(), ids=lambda text: text[:40])
async def test_bad_argument_is_refused_and_named(client: Client, arguments: str, name: str) -> None:
    from yarl import URL

    async with client.get(URL(f"/events?{arguments}", encoded=True)) as response:
        assert (response.status, response.content_type) == (400, PROBLEM)
        assert name in (await response.json(content_type=PROBLEM))["detail"]


async def test_every_bad_argument_is_named_at_once(client: Client) -> None:
    async with client.get("/events?limit=0&order=up&since=x&until=y&after=z&q=1") as response:
        detail = (await response.json(content_type=PROBLEM))["detail"]
    for name in ("limit", "order", "since", "until", "after", "q"):
        assert f"{name}:" in detail
