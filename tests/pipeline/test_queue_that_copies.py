"""A submission is plain data: what comes out of a queue need not be what was put in."""

from typing import Any

import msgspec
import pytest

from added import INSTALLED, with_plugin
from aggregator.event import Submission
from aggregator.plugins import QUEUES, Plugins
from aggregator_memory.queue import MemoryQueue
from conftest import Client, Start
from events import event

COPYING = Plugins([*INSTALLED.found, with_plugin(QUEUES, "copying", f"{__name__}:CopyingQueue")])


class CopyingQueue(MemoryQueue):
    """`copying:` gives what a broker would: the same data, and nothing of this process."""

    def __init__(self, url: str, max_events: int) -> None:
        super().__init__("memory:", max_events)

    async def take(self, most: int) -> list[Submission]:
        written = msgspec.msgpack.encode(await super().take(most))
        return msgspec.msgpack.decode(written, type=list[Submission])


@pytest.fixture
async def copying(start: Start) -> Client:
    return await start(COPYING, queue="copying:", on_invalid="quarantine")


async def publish(client: Client, *events: dict[str, Any], prefer: str = "") -> tuple[int, Any]:
    headers = {"Prefer": prefer} if prefer else {}
    async with client.post("/publish", json=list(events), headers=headers) as response:
        answer = await response.json(content_type=None)
        return response.status, [result["status"] for result in answer.get("results", [])]


async def test_verdicts_come_back_with_the_copies(copying: Client) -> None:
    good, other, bad = event("1"), event("1", payload={"n": 1}), event("2", topic="")
    statuses = ["stored", "duplicate", "conflict", "invalid"]
    assert await publish(copying, good, good, other, bad) == (207, statuses)
    strictly = await publish(copying, event("3"), bad, prefer="handling=strict")
    assert strictly == (422, ["refused", "invalid"])
    assert (await publish(copying, event("4"), prefer="respond-async"))[0] == 202
    assert await publish(copying, event("4")) == (200, ["duplicate"])


async def test_cloud_event_comes_through_as_it_is(copying: Client) -> None:
    cloud = {"specversion": "1.0", "type": "t", "id": "1", "source": "/s", "data_base64": "AAE="}
    headers = {"Content-Type": "application/cloudevents+json"}
    for status in ("stored", "duplicate"):
        async with copying.post("/publish", json=cloud, headers=headers) as response:
            assert (await response.json())["results"][0]["status"] == status
    async with copying.get("/events/t/1") as response:
        assert (await response.json())["payload_base64"] == "AAE="


async def test_release_answers_with_the_copies_too(copying: Client) -> None:
    await publish(copying, event("2", topic=""))
    async with copying.post("/quarantine/1/release") as response:
        assert response.status == 422
