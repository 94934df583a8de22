"""Those who wait to read the store take turns, client by client."""

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from aggregator.api.client_address import Clients
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.core.budget import Budget
from aggregator.errors import Unavailable
from plain_store import PlainStore

FIRST, SECOND = "192.0.2.1", "192.0.2.2"


class Readers:
    """Reads one page at a time, and notes whose turn it was."""

    def __init__(self) -> None:
        self.sender = Sender(Budget(2**30, "bytes (answer_bytes)"), Clients(), 5.0)
        self.limiter = ReadLimiter(PlainStore("plain::memory:"), self.sender, 1)
        self.turns: list[str] = []

    async def read(self, client: str, **request: Any) -> None:
        asked = make_mocked_request("GET", "/events", **request).clone(remote=client)
        async with self.limiter.acquire(asked):
            self.turns.append(client)
            await asyncio.sleep(0)

    async def ask(self, *clients: str) -> list[asyncio.Task[None]]:
        """Each of them waits for a page, in that order."""
        tasks = [asyncio.create_task(self.read(client)) for client in clients]
        await asyncio.sleep(0)
        return tasks

    async def is_free(self) -> bool:
        """Whether a page can be read at once."""
        async with asyncio.timeout(1):
            await self.read(FIRST)
        return self.sender.budget.held == 0


async def test_one_page_waits_for_one_of_each_client_and_not_for_all_of_another() -> None:
    readers = Readers()
    await asyncio.gather(*await readers.ask(*[FIRST] * 50, SECOND, SECOND))
    assert readers.turns[:5] == [FIRST, FIRST, SECOND, FIRST, SECOND]
    assert readers.turns[5:] == [FIRST] * 47
    assert await readers.is_free()


async def test_whoever_gives_up_leaves_the_turn_to_others() -> None:
    readers = Readers()
    tasks = await readers.ask(FIRST, *[FIRST] * 3, SECOND)
    tasks[1].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[2].cancel()  # in the moment in which it is its turn, or before
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(readers.turns[1:]) in ([FIRST, SECOND], [SECOND])
    assert await readers.is_free()


async def test_nothing_is_read_for_who_has_left() -> None:
    readers = Readers()
    request = make_mocked_request("GET", "/events").clone(remote=FIRST)
    request.protocol.transport = None
    for _ in range(2):
        with pytest.raises(Unavailable, match="The client has left"):
            async with readers.limiter.acquire(request):
                pass
    assert await readers.is_free()


async def test_a_stop_waits_for_none_of_those_who_wait_for_their_turn() -> None:
    readers = Readers()
    async with readers.limiter.acquire():
        tasks = await readers.ask(*[FIRST] * 20)
        readers.sender.hurry(0.01)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {Unavailable}
    assert not readers.turns
