"""The client against the real service, and against servers that break off, lie or stay away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.pytest_plugin import AiohttpServer

from aggregator.app import create_app
from aggregator.client import Client, ClientError, Unavailable, UnexpectedAnswer
from aggregator.client.client import retry_after_seconds
from aggregator.config import load
from aggregator.plugins import Plugins

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

EVENT = {"topic": "a/b", "event_id": "1 ?", "timestamp": "2026-01-31T12:00:00Z", "source": "s"}
INVALID = EVENT | {"event_id": "2", "timestamp": "never", "payload": {}}
LARGE = 300_000  # bytes, more than aiohttp takes as a line


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def client(aiohttp_server: AiohttpServer, http: aiohttp.ClientSession) -> Client:
    """Of the real service, with a store in memory."""
    server = await aiohttp_server(create_app(load({"store": "memory:"}, {}), Plugins.installed()))
    return Client(http, str(server.make_url("")).rstrip("/"))


async def against(
    aiohttp_server: AiohttpServer, http: aiohttp.ClientSession, handler: Handler
) -> Client:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = await aiohttp_server(app)
    return Client(http, str(server.make_url("")).rstrip("/"), timeout=0.5)


def body(*events: dict[str, object]) -> bytes:
    return msgspec.json.encode(events)


async def every_call(client: Client) -> AsyncIterator[ClientError]:
    """What each call raises, and fails if one does not."""
    for call in (
        client.publish(b"[]"),
        client.stats(),
        client.settled_stats(),
        client.topics(),
        client.explain("t", "1"),
        client.event("t", "1", "s"),
        anext(client.event_pages("t")),
        client.publish_async(b"[]"),
        client.quarantined(),
        client.release(1),
        client.drop_all("failed"),
        anext(client.events()),
        anext(client.follow(0)),
    ):
        with pytest.raises(ClientError) as raised:
            await call
        yield raised.value


async def test_every_call_understands_the_service(client: Client) -> None:
    good = EVENT | {"payload": {"n": "x" * LARGE}}
    other = EVENT | {"payload": {"n": 2}}
    assert await client.why_not_ready() is None

    answer = await client.publish(body(good, good, other))
    assert (answer.received, answer.stored, answer.duplicates) == (3, 1, 1)
    assert [result.status for result in answer.results] == ["stored", "duplicate", "conflict"]
    assert answer.http_status == 200
    assert (await client.publish(body(other, INVALID))).http_status == 207

    stats = await client.settled_stats()
    assert (stats.received_total, stats.unique_processed, stats.conflicts) == (5, 1, 2)
    (topic,) = await client.topics()
    assert (topic.topic, topic.stored, topic.duplicates, topic.conflicts) == ("a/b", 1, 1, 2)
    explained = await client.explain("a/b", "1 ?")
    assert (explained.duplicates, [one.times for one in explained.conflicting]) == (1, [2])
    (page,) = [page async for page in client.event_pages("a/b")]
    assert page.events == [event async for event in client.events()]
    assert msgspec.json.decode(page.events[0].payload) == good["payload"]
    assert [await client.event("a/b", "1 ?", "s")] == page.events
    (none,) = [page async for page in client.event_pages("a/b", field="/n", equals="2")]
    assert none.events == []


async def test_what_is_in_quarantine_is_listed_released_and_dropped(client: Client) -> None:
    accepted = await client.publish_async(body(EVENT | {"payload": {}}, INVALID))
    assert accepted.received == 2
    await client.settled_stats()
    (entry,) = await client.quarantined("invalid")
    assert (entry.reason, entry.submission) == ("invalid", accepted.submission)
    assert msgspec.json.decode(entry.body) == INVALID
    assert await client.quarantined("failed") == []
    (result,) = (await client.release(entry.id)).results
    assert (result.status, result.quarantine_id) == ("invalid", entry.id)
    await client.drop_all("failed")
    assert (await client.stats()).quarantined == 1
    await client.drop_all("invalid")
    assert await client.quarantined() == []


async def test_stream_is_followed_from_where_a_reader_left_off(client: Client) -> None:
    events = [EVENT | {"event_id": str(number), "payload": {}} for number in range(3)]
    await client.publish(body(*events))
    following = client.follow(1)
    assert [(await anext(following)).event_id for _ in range(2)] == ["1", "2"]
    await following.aclose()
    assert [event.seq async for event in client.events(after=2)] == [3]


async def test_strict_publish_stores_all_or_nothing(client: Client) -> None:
    answer = await client.publish(body(EVENT | {"payload": {}}, INVALID), is_strict=True)
    assert [result.status for result in answer.results] == ["refused", "invalid"]
    assert not [event async for event in client.events()]


@pytest.mark.parametrize("status", [500, 503])
async def test_answer_from_500_on_is_unavailable(
    aiohttp_server: AiohttpServer, http: aiohttp.ClientSession, status: int
) -> None:
    async def fail(_: web.Request) -> web.Response:
        problem = {"title": "full", "detail": "try later"}
        return web.json_response(problem, status=status, headers={"Retry-After": "3"})

    client = await against(aiohttp_server, http, fail)
    async for error in every_call(client):
        assert isinstance(error, Unavailable)
        assert (error.status, error.reason, error.retry_after) == (status, str(status), 3.0)
        assert str(error).endswith(f": answered {status} full: try later")
    assert await client.why_not_ready() == f"GET /readyz: answered {status} full: try later"


@pytest.mark.parametrize("said", [b"<p>", b'{"title": "\xff"}', b"[]", b"{}"])
@pytest.mark.parametrize("status", [200, 302, 404])
async def test_answer_that_the_contract_does_not_know_is_unexpected(
    aiohttp_server: AiohttpServer, http: aiohttp.ClientSession, status: int, said: bytes
) -> None:
    async def lie(_: web.Request) -> web.Response:
        return web.Response(status=status, body=said, headers={"Location": "/elsewhere"})

    client = await against(aiohttp_server, http, lie)
    async for error in every_call(client):
        assert isinstance(error, UnexpectedAnswer)


async def test_cursor_that_stays_where_it_is_is_unexpected(
    aiohttp_server: AiohttpServer, http: aiohttp.ClientSession
) -> None:
    async def stay(_: web.Request) -> web.Response:
        return web.json_response({"events": [], "topics": [], "next": "7"})

    client = await against(aiohttp_server, http, stay)
    with pytest.raises(UnexpectedAnswer, match="the cursor stays at 7"):
        await client.topics()


async def test_lost_connection_and_time_out_are_told_apart(
    aiohttp_server: AiohttpServer, http: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    async def lose(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    async def wait(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    nobody = Client(http, f"http://127.0.0.1:{unused_tcp_port}")
    for client, reason in (
        (nobody, "lost connection"),
        (await against(aiohttp_server, http, lose), "lost connection"),
        (await against(aiohttp_server, http, wait), "time-out"),
    ):
        async for error in every_call(client):
            assert isinstance(error, Unavailable)
            assert (error.status, error.reason) == (None, reason)
        with pytest.raises(Unavailable):
            await client.why_not_ready()


async def test_stream_that_breaks_off_in_a_line_is_unavailable(
    aiohttp_server: AiohttpServer, http: aiohttp.ClientSession
) -> None:
    line = msgspec.json.encode(EVENT | {"seq": 1})

    async def cut(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(line + b"\n" + line[:10])
        assert request.transport
        request.transport.close()
        return answer

    events = (await against(aiohttp_server, http, cut)).events()
    assert (await anext(events)).event_id == "1 ?"
    with pytest.raises(Unavailable):
        await anext(events)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0", 0.0), (None, None), ("Fri, 31 Dec 2026 23:59:59 GMT", None), ("-1", None)],
)
def test_retry_after_is_taken_in_seconds_only(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header) == seconds
