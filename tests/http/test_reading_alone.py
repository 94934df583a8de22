"""A service that only reads: every way to read answers, every way to change something is 503."""

import pytest
from bodies import PROBLEM, get
from sse import EventSource

from aggregator.config import load
from aggregator.errors import SettingError
from aggregator.plugins import Plugins
from conftest import Client, Start
from events import event

READING = (
    "/events",
    "/events?topic=logins&order=desc",
    "/events?source=shell",
    "/events/logins/1",
    "/events/logins/1/explain",
    "/topics",
    "/stats",
    "/quarantine",
    "/healthz",
    "/openapi.json",
)
CHANGING = (
    ("POST", "/publish"),
    ("POST", "/quarantine/release?after=0"),
    ("POST", "/quarantine/1/release"),
    ("DELETE", "/quarantine?after=0"),
    ("DELETE", "/quarantine/1"),
)


@pytest.fixture
async def writer(start: Start) -> Client:
    """The app that stores, with an event and an entry in quarantine."""
    writer = await start(on_invalid="quarantine")
    async with writer.post("/publish", json=[event("1"), event("", topic="bad")]) as response:
        assert response.status == 207
    return writer


async def test_all_is_read_and_nothing_changed(writer: Client, start: Start) -> None:
    reader = await start(read_only=True, on_invalid="quarantine")
    for path in READING:
        async with reader.get(path) as response:
            assert response.status == 200, (path, await response.text())
    assert await get(reader, "/readyz") == {"status": "read-only"}
    for method, path in CHANGING:
        async with reader.request(method, path, json=event("2")) as response:
            assert response.status == 503, path
            assert response.content_type == PROBLEM
            assert "only reads (read_only)" in (await response.json())["detail"]
            assert response.headers["Retry-After"]
    assert (await get(reader, "/stats"))["quarantined"] == 1
    assert (await get(reader, "/stats"))["unique_processed"] == 1


async def test_what_another_process_stores_is_followed(writer: Client, start: Start) -> None:
    reader = await start(read_only=True)
    async with EventSource(reader, "/events/stream?after=1") as source:
        async with writer.post("/publish", json=event("2")) as response:
            assert response.status == 200
        (message,) = await source.take(1)
    assert message.id == "2"
    assert (await get(reader, "/events/logins/2"))["seq"] == 2


@pytest.mark.parametrize("given", ["true", "1", "yes"])
def test_it_is_a_switch(given: str) -> None:
    plugins = Plugins.installed()
    assert load({}, {"AGGREGATOR_READ_ONLY": given}, plugins.problems).settings.read_only
    assert not load({}, {}, plugins.problems).settings.read_only


def test_store_that_cannot_be_opened_so_stops_the_start() -> None:
    with pytest.raises(SettingError, match="cannot be opened to read alone, as read_only asks for"):
        load({"store": "memory:", "read_only": True}, {}, Plugins.installed().problems)
