"""Clients that are slow, many or deaf, all at once: everybody else is served beside them."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import SystemRandom
from urllib.parse import urlsplit

import pytest
from flood import memory

from events import event
from publishers import Publishers, check_stored
from running import LIMIT, Service, until

SLOW, IDLE, DEAF = 50, 1000, 40
POST = b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = POST + b"Content-Length: 1000\r\n\r\n"
PAGES = 4  # of which the kernel keeps one, whoever reads
PAGE = b"GET /events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n"
READ = (PAGE + b"\r\n") * (PAGES - 1) + PAGE + b"Connection: close\r\n\r\n"
LARGE = {"filler": "x" * 1_000_000}
ESTABLISHED = "01"  # in /proc/net/tcp
BOUND = 256
"""MiB of memory beyond the start; what the deaf have asked for is twice that."""
SPARE = 3  # files of the store, which its readers open when they are first asked

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def _many_files() -> Iterator[None]:
    """This process may have as many connections as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * IDLE:
        pytest.skip(f"no process may have more than {hard} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * IDLE), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
async def test_slow_many_and_deaf_clients_keep_nobody_else_from_being_served(
    service: Service,
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start(
        *("--body-timeout", "3", "--answer-timeout", "3"),
        *("--connections", "2000", "--client-share", "1"),
    )
    large = [event(f"{number}", "large", payload=LARGE) for number in range(12)]
    stored = service.publish(large)[1]["results"]
    before, files = memory(service, "VmHWM"), open_files(service)
    with Publishers(service, seed) as publishers:
        ledger = publishers.ledger
        ledger.note(large, stored)
        async with (
            clients(service, IDLE, b""),
            clients(service, SLOW, POST) as in_head,
            clients(service, SLOW, BODY) as in_body,
            clients(service, DEAF, READ) as deaf,
            dripping([*in_head, *in_body]),
        ):
            assert open_files(service) > files + IDLE
            enough = ledger.answers + 100
            await asyncio.to_thread(until, lambda: ledger.answers > enough, "all are served")
            async with asyncio.timeout(LIMIT):
                answers = [await reader.readline() for reader, _ in in_body]
            assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers), answers
            await asyncio.to_thread(until, lambda: not held(service, deaf), "the deaf are cut")
            served = [await is_served(reader) for reader, _ in deaf]
            assert not any(served), f"{sum(served)} of those who did not read had it all kept"
            assert (await asyncio.to_thread(service.call, "/readyz"))[0] == 200
        await asyncio.to_thread(publishers.finish)
    assert ledger.unanswered == 0
    assert memory(service, "VmHWM") - before < BOUND
    until(lambda: open_files(service) <= files + SPARE, "its files are closed again")
    check_stored(service, ledger)


@asynccontextmanager
async def clients(service: Service, count: int, words: bytes) -> AsyncIterator[list[Connection]]:
    """So many who say these words, and nothing more by themselves."""
    address = urlsplit(service.url)
    connections: list[Connection] = []
    try:
        for _ in range(count):
            # Next to nothing is read ahead, as by somebody who does not read.
            opened = await asyncio.open_connection(address.hostname, address.port, limit=1024)
            opened[1].write(words)
            connections.append(opened)
        yield connections
    finally:
        for _, writer in connections:
            writer.close()
        for _, writer in connections:
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def dripping(slow: list[Connection]) -> AsyncIterator[None]:
    """Each of them sends a byte a second."""

    async def drip() -> None:
        while True:
            for _, writer in slow:
                if not writer.is_closing():
                    writer.write(b"x")
            await asyncio.sleep(1)

    task = asyncio.create_task(drip())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def held(service: Service, connections: list[Connection]) -> set[int]:
    """The ports of those whose connections the service has open: they cannot tell, unread."""
    door = urlsplit(service.url).port
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == door:
            found.add(int(remote.rpartition(":")[2], 16))
    return found & {writer.get_extra_info("sockname")[1] for _, writer in connections}


async def is_served(reader: asyncio.StreamReader) -> bool:
    """Whether all comes that the heads promise, and none is a refusal."""
    heads = []
    try:
        for _ in range(PAGES):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            promised = heads[-1].lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(promised))
    except (asyncio.IncompleteReadError, ConnectionError):
        return False
    return not any(head.startswith(b"HTTP/1.1 503 ") for head in heads)


def open_files(service: Service) -> int:
    """How many the service has, connections included."""
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))
