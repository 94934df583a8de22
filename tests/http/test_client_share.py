"""One client cannot take what all share, and everything comes back however its requests end."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, TCPConnector
from wire import PUBLISH, give_up, with_length

from added import with_stages
from aggregator.app import BUDGETS
from aggregator.core.budget import Budget
from aggregator.errors import QueueFull
from aggregator.event import Event
from aggregator.stage import BatchStage
from conftest import Client, Start
from events import event

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
LIMIT = 10.0
LARGE = {"filler": "x" * 900_000}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="has one loopback address")


def test_who_is_alone_gets_as_much_as_one_may_hold_whatever_is_asked_for() -> None:
    budget = Budget(100, "apples (apples)", 0.25)
    place = budget.reserve("a")
    assert [place.take(60), place.take(60), place.take(60)] == [60, 15, 0]
    with pytest.raises(QueueFull):
        budget.reserve("a").take(1)
    place.release()
    assert budget.held == 0


@pytest.mark.parametrize(
    ("held", "client", "size", "words"),
    [
        ({}, "a", 75, None),
        ({"b": 26}, "a", 101, "Too many apples (apples). Try again."),
        ({"a": 75}, "a", 1, "Too many apples (apples), and a holds its share of them"),
        ({"a": 75}, "b", 25, None),
        ({"a": 75}, "b", 26, "Too many apples (apples). Try again."),
        ({"a": 75, "b": 24}, "b", 1, None),
        ({"a": 60, "b": 25}, "b", 1, "b holds its share of them (client_share). Try again."),
        ({"a": 25, "b": 25, "c": 25, "d": 24}, "d", 1, None),
        ({"a": 60, "b": 15}, "b", 1, None),
    ],
)
def test_last_quarter_is_kept_for_clients_that_hold_less_than_their_share(
    held: dict[str, int], client: str, size: int, words: str | None
) -> None:
    budget = Budget(100, "apples (apples)", 0.25)
    for name, count in held.items():
        budget.reserve(name).hold(count)
    place = budget.reserve(client)
    if words is None:
        place.take(size)
        assert place.held == size
    else:
        with pytest.raises(QueueFull) as raised:
            place.take(size)
        assert words in str(raised.value)
        assert place.held == 0


def test_share_of_all_keeps_nothing_for_others() -> None:
    place = Budget(100, "apples", 1.0).reserve("a")
    for _ in range(100):
        place.take(1)


def test_names_of_clients_that_hold_nothing_are_forgotten() -> None:
    budget = Budget(100, "apples", 0.25)
    for number in range(1000):
        with budget.reserve(str(number)) as place:
            place.take(1)
            place.take(2)
        place.release()
    with budget.reserve("nothing") as place:
        place.take(0)
    assert (budget.held, budget.by_client) == (0, {})


def session_from(address: str) -> ClientSession:
    """Whose connections come from that address."""
    return ClientSession(connector=TCPConnector(local_addr=(address, 0)))


async def publish(client: Client, *events: object, address: str = FIRST) -> tuple[int, str]:
    """Status and, where it is a problem, its detail."""
    async with (
        session_from(address) as session,
        session.post(client.make_url("/publish"), json=list(events)) as response,
    ):
        return response.status, (await response.json()).get("detail", "")


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not is_so():
            await asyncio.sleep(0.01)


async def until_all_is_back(client: Client) -> None:
    """Nobody holds anything any more, but connections that are open."""
    *budgets, connections = client.app[BUDGETS]
    await client.session.connector.close()  # type: ignore[union-attr]
    await until(lambda: not any(budget.held for budget in budgets))
    await until(lambda: not connections.held)
    assert [budget.by_client for budget in (*budgets, connections)] == [{}] * (len(budgets) + 1)


@asynccontextmanager
async def stalled(client: Client, sent: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that has sent this, and sends and reads nothing more."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (client.host, client.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    writer.write(sent)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_stalled_uploads_of_one_client_leave_room_for_others(start: Start) -> None:
    client = await start(max_event=1000, max_body=2000, queue_bytes=4000)
    requests = client.app[BUDGETS][0]
    begun = PUBLISH + b"Content-Type: application/json\r\n" + with_length(1900) + b" " * 1450
    async with stalled(client, begun), stalled(client, begun):
        await until(lambda: requests.held == 2900)
        assert requests.by_client == {FIRST: 2900}
        status, detail = await publish(client, event("1"))
        assert status == 503
        assert detail.startswith("Too many bytes of requests are under way (queue_bytes), and")
        assert "127.0.0.1 holds its share of them (client_share)" in detail
        assert (await publish(client, event("2"), address=SECOND))[0] == 200
    await until_all_is_back(client)
    assert (await publish(client, event("3")))[0] == 200


async def test_without_shares_one_client_can_hold_all(start: Start) -> None:
    client = await start(max_event=1000, max_body=2000, queue_bytes=4000, client_share=1)
    requests = client.app[BUDGETS][0]
    begun = PUBLISH + b"Content-Type: application/json\r\n" + with_length(2000) + b" " * 1990
    async with stalled(client, begun), stalled(client, begun):
        await until(lambda: requests.held == 3980)
        status, detail = await publish(client, event("1"), address=SECOND)
        assert (status, detail) == (
            503,
            "Too many bytes of requests are under way (queue_bytes). Try again.",
        )
    await until_all_is_back(client)


class Gate(BatchStage):
    """Lets no batch pass while it is closed."""

    opened = asyncio.Event()

    async def process(self, events: Sequence[Event], _: object) -> Sequence[Event]:
        await self.opened.wait()
        return events


async def test_events_of_one_client_leave_room_for_those_of_others(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "opened", asyncio.Event())
    plugins = with_stages(gate="test_client_share:Gate")
    client = await start(
        plugins, pipeline="validate | dedup gate persist", queue_events=8, max_events=6
    )
    queued: Budget = client.app[BUDGETS][1]
    first = asyncio.create_task(publish(client, *(event(f"{n}") for n in range(6))))
    await until(lambda: queued.by_client == {FIRST: 6})
    status, detail = await publish(client, event("one too many"))
    assert status == 503
    assert "(queue_events), and 127.0.0.1 holds its share" in detail
    other = asyncio.create_task(publish(client, event("other"), address=SECOND))
    await until(lambda: queued.by_client == {FIRST: 6, SECOND: 1})
    Gate.opened.set()
    assert [(await task)[0] for task in (first, other)] == [200, 200]
    await until_all_is_back(client)


async def test_what_a_stage_fails_on_is_given_back(start: Start) -> None:
    plugins = with_stages(raises="misbehaving:Raises")
    client = await start(plugins, pipeline="validate | dedup raises persist")
    assert (await publish(client, event("1", payload={"bad": True})))[0] == 500
    assert (await publish(client, {"no": "event"}))[0] == 422
    await until_all_is_back(client)


async def test_who_gives_up_holds_nothing(client: Client) -> None:
    assert client.port
    head = PUBLISH + b"Content-Type: application/json\r\n"
    for sent in (b"", b"POST", head, head + with_length(100), head + with_length(100) + b"[" * 50):
        await give_up(client.host, client.port, [sent])
    await until_all_is_back(client)


async def test_reader_who_does_not_read_leaves_room_for_others(start: Start) -> None:
    client = await start(answer_bytes=8_000_000)
    for number in range(12):
        assert (await publish(client, event(str(number), payload=LARGE), address=SECOND))[0] == 200
    pages: Budget = client.app[BUDGETS][3]
    ask = (
        4 * b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )  # the kernel takes the first answers

    async def read(address: str) -> tuple[int, str]:
        async with (
            session_from(address) as session,
            session.get(client.make_url("/events?limit=1")) as response,
        ):
            return response.status, (await response.json()).get("detail", "")

    async with stalled(client, ask), stalled(client, ask):
        await until(lambda: pages.by_client.get(FIRST, 0) > 5_000_000)
        status, detail = await read(FIRST)
        assert status == 503
        assert "(answer_bytes), and 127.0.0.1 holds its share" in detail
        assert (await read(SECOND))[0] == 200
    await until_all_is_back(client)


async def test_followers_of_one_client_leave_room_for_others(start: Start) -> None:
    client = await start(streams=4)
    followers: Budget = client.app[BUDGETS][5]
    ask = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with stalled(client, ask), stalled(client, ask), stalled(client, ask):
        await until(lambda: followers.by_client == {FIRST: 3})
        async with client.get("/events/stream") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert "(streams), and 127.0.0.1 holds its" in (await response.json())["detail"]
        async with (
            session_from(SECOND) as session,
            session.get(client.make_url("/events/stream")) as response,
        ):
            assert response.status == 200
    await until_all_is_back(client)


async def test_follower_who_does_not_read_keeps_nobody_else_from_following(start: Start) -> None:
    client = await start(answer_bytes=12_000_000)
    ask = b"GET /events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    followed: Budget = client.app[BUDGETS][4]
    async with stalled(client, ask), stalled(client, ask), stalled(client, ask):
        for number in range(12):
            large = event(str(number), payload=LARGE)
            assert (await publish(client, large, address=SECOND))[0] == 200
        await until(lambda: followed.by_client.get(FIRST, 0) > 1_000_000)
        async with (
            session_from(SECOND) as session,
            session.get(client.make_url("/events/stream?after=0")) as response,
            asyncio.timeout(LIMIT),
        ):
            read = await response.content.readuntil(b"id: 12\n", max_size=2**24)
        assert len(read) > 10 * 900_000
    await until_all_is_back(client)


async def test_client_behind_a_listed_proxy_has_a_share_of_its_own(start: Start) -> None:
    client = await start(streams=4, proxies=FIRST)
    follow = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: %s\r\n\r\n"
    followers: Budget = client.app[BUDGETS][5]
    greedy, other = follow % b"203.0.113.1", follow % b"203.0.113.2"
    async with stalled(client, greedy), stalled(client, greedy), stalled(client, greedy):
        await until(lambda: followers.by_client == {"203.0.113.1": 3})
        async with stalled(client, greedy) as reader:
            assert b" 503 " in await reader.readuntil(b"\r\n\r\n")
        async with stalled(client, other) as reader:
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    await until_all_is_back(client)


async def test_all_is_back_after_a_stop_in_the_middle(start: Start) -> None:
    client = await start()
    begun = PUBLISH + b"Content-Type: application/json\r\n" + with_length(1900) + b" " * 100
    follow = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    budgets = client.app[BUDGETS]
    async with stalled(client, begun), stalled(client, follow):
        await until(lambda: budgets[0].held == 100 and budgets[5].held == 1)
        await client.server.runner.cleanup()  # type: ignore[union-attr]
        await until(lambda: not any(budget.held for budget in budgets))
        assert not any(budget.by_client for budget in budgets)
