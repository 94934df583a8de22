"""Every call answers what it is for, and says so where it is asked for anything else."""

import re

import pytest
from bodies import NDJSON, PROBLEM, array, get, good, publish, spelled
from wire import connected, exchange

from conftest import Client

READS = [
    "/events",
    "/events/logins/1",
    "/events/logins/1/explain",
    "/topics",
    "/stats",
    "/healthz",
    "/readyz",
]


@pytest.mark.parametrize("path", READS)
async def test_head_answers_as_get_without_a_body(client: Client, path: str) -> None:
    await publish(client, good("1"))
    async with client.head(path) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert await response.read() == b""


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_method_is_refused_with_those_allowed(
    client: Client, path: str, method: str
) -> None:
    async with client.request(method, path) as response:
        assert (response.status, response.content_type) == (405, PROBLEM)
        assert set(re.split(", ?", response.headers["Allow"])) == {"GET", "HEAD", "OPTIONS"}
        assert method in (await response.json(content_type=PROBLEM))["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_publish_takes_posts_only(client: Client, method: str) -> None:
    async with client.request(method, "/publish") as response:
        assert (response.status, response.headers["Allow"]) == (405, "OPTIONS,POST")


@pytest.mark.parametrize("path", [*READS, "/topics", "/events/stream", "/events/a/b/explain"])
async def test_options_names_the_methods_of_a_path(client: Client, path: str) -> None:
    async with client.options(path) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert not any(name.startswith("Access-Control") for name in response.headers)


async def test_options_of_publish_names_the_types_it_takes(client: Client) -> None:
    async with client.options("/publish") as response:
        assert (response.status, response.headers["Allow"]) == (204, "OPTIONS, POST")
        assert "application/x-ndjson" in response.headers["Accept-Post"]


async def test_options_of_an_unknown_path_is_not_found(client: Client) -> None:
    async with client.options("/nothing") as response:
        assert (response.status, response.content_type) == (404, PROBLEM)


async def test_options_of_the_whole_service_is_answered(client: Client) -> None:
    request = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = await exchange(client.host, client.port, [request])
    assert answer.status == 204


async def test_options_of_the_whole_service_names_the_methods_of_all_paths(client: Client) -> None:
    async with connected(client.host, client.port) as (reader, writer):
        writer.write(b"OPTIONS * HTTP/1.0\r\n\r\n")
        assert b"\r\nAllow: DELETE, GET, HEAD, OPTIONS, POST\r\n" in await reader.read()


CACHING = {
    "/events": "no-cache",
    "/events/logins/1": "no-cache",
    "/events/logins/1/explain": "no-cache",
    "/topics": "no-cache",
    "/openapi.json": "no-cache",
    "/stats": "no-store",
    "/healthz": "no-store",
    "/readyz": "no-store",
}


@pytest.mark.parametrize(("path", "caching"), CACHING.items())
async def test_answers_that_change_say_so(client: Client, path: str, caching: str) -> None:
    await publish(client, good("1"))
    for accepted in ("*/*", NDJSON) if path == "/events" else ("*/*",):
        async with client.get(path, headers={"Accept": accepted}) as response:
            assert (response.status, response.headers["Cache-Control"]) == (200, caching)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/event",
        "/events/",
        "/events/a",
        "/events/a/b/c",
        "/events/a/b/explain/c",
        "/publish/",
        "/%00",
        "/%FF",
    ],
)
async def test_unknown_path_is_not_found(client: Client, path: str) -> None:
    async with client.get(path) as response:
        assert (response.status, response.content_type) == (404, PROBLEM)
        assert (await response.json(content_type=PROBLEM))["status"] == 404


async def test_event_that_is_not_stored_is_not_found(client: Client) -> None:
    await publish(client, good("1"))
    for path in ("/events/logins/2", "/events/Logins/1", "/events/1/logins", "/events/%FF/1"):
        async with client.get(path) as response:
            assert (response.status, response.content_type) == (404, PROBLEM)


async def test_one_event_is_read_by_topic_and_id(client: Client) -> None:
    await publish(client, array([good("1"), spelled(event_id='"2"', payload='{"a":[1]}')]))
    found = await get(client, "/events/logins/2")
    assert found.pop("received_at").endswith("Z")
    assert found == {
        "seq": 2,
        "topic": "logins",
        "event_id": "2",
        "timestamp": "2026-01-31T12:00:00Z",
        "source": "tests",
        "payload": {"a": [1]},
    }


async def test_service_that_runs_is_alive_and_ready(client: Client) -> None:
    assert await get(client, "/healthz") == {"status": "alive"}
    assert await get(client, "/readyz") == {"status": "ready"}


async def test_numbers_add_up_whatever_was_sent(client: Client) -> None:
    new = array([good("1"), spelled(topic='"b"'), good("3")])
    bad = spelled(topic="1")
    await publish(client, new)
    await publish(client, new)
    await publish(client, array([spelled(payload='{"other":1}'), good("4"), good("4"), bad]))
    await publish(client, bad)
    await publish(client, b"no JSON, so nothing is counted")
    stats = await get(client, "/stats")
    assert stats.pop("uptime_seconds") >= 0
    assert stats == {
        "received_total": 11,
        "unique_processed": 4,
        "duplicate_dropped": 5,
        "conflicts": 1,
        "invalid": 2,
        "filtered": 0,
        "refused": 0,
        "failed_async": 0,
        "quarantined": 0,
        "quarantine_evicted": 0,
        "queue_size_current": 0,
        "processed_topics": ["b", "logins"],
        "processed_topics_total": 2,
    }


async def test_topic_of_refused_events_only_is_not_among_the_topics(client: Client) -> None:
    await publish(client, array([good("1"), spelled(topic='"new"', source=None)]))
    assert (await get(client, "/stats"))["processed_topics"] == ["logins"]
