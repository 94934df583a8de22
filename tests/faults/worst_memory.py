"""Fills every bound of a service at once, and shows how much memory it takes.

    make memory

On a store of a million events, with default settings. What clients do is done from as many
addresses as it takes to have all of each bound: by stalled and by whole uploads, by publishers,
readers, followers and exports that read nothing of their answers, by connections with long heads.

Parts can be named, to be measured alone. `STORED` in the environment is a folder for the store,
where that of an earlier run is used again.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from flood import memory

from events import event
from running import Service

EVENTS, BATCH = 1_000_000, 10_000
BOUND = 286
"""MiB that the process may have at most: 300 MB."""
SECONDS = 20.0
FILLER = {"filler": "x" * 1_450}
LARGE = {"filler": "x" * 500_000}

POST = (
    "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    "Content-Length: {size}\r\n\r\n"
)
LONG = "".join(f"X-{number}: {'x' * 7_900}\r\n" for number in range(2))


class Client:
    """A connection from one of many addresses that sends, and reads nothing."""

    numbers = iter(range(10**9))

    def __init__(self, service: Service) -> None:
        self._address = urlsplit(service.url)
        self._connection = socket.socket()
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._connection.setblocking(False)
        number = next(self.numbers)
        self._connection.bind((f"127.0.{number // 16 % 256}.{number % 16 + 1}", 0))

    async def send(self, *parts: bytes) -> None:
        """Connect and send; for ever, if it is not received."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            await loop.sock_connect(self._connection, (self._address.hostname, self._address.port))
            for part in parts:
                await loop.sock_sendall(self._connection, part)
            await asyncio.Event().wait()

    def close(self) -> None:
        self._connection.close()


def get(path: str, head: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode()


def post(body: bytes, kind: str = "application/json") -> bytes:
    return POST.format(kind=kind, size=len(body)).encode() + body


def batch(name: str, count: int, payload: object) -> bytes:
    return json.dumps([event(f"{name}-{n}", payload=payload) for n in range(count)]).encode()


def uploads() -> Iterator[list[bytes]]:
    """Bodies of nearly 16 MB, of which the last bytes come when all are there."""
    for number in range(8):
        body = post(batch(f"upload {number}", BATCH, FILLER))
        yield [body[:-6], b"", body[-6:]]


def careful() -> Iterator[list[bytes]]:
    """What is decoded the careful way."""
    line = json.dumps(event("careful", payload={"x": "\x00"}))
    line = line.replace('"x": ', '"y": [' + ",".join(["{}"] * 330_000) + '], "x": ')
    body = "\n".join([line] * 15).encode()
    for _ in range(8):
        yield [post(body, "application/x-ndjson")]


def many_small() -> Iterator[list[bytes]]:
    for number in range(10):
        yield [post(batch(f"small {number}", BATCH, {}))]


def deaf_publishers() -> Iterator[list[bytes]]:
    body = post(batch("again", BATCH, {}))
    for _ in range(60):
        yield [body] * 6


def deaf_readers() -> Iterator[list[bytes]]:
    for _ in range(100):
        yield [get("/events?topic=large&limit=1000")] * 8


def deaf_followers() -> Iterator[list[bytes]]:
    for _ in range(100):
        yield [get("/events/stream?topic=large&after=0", LONG), get("/healthz", LONG) * 12]


def deaf_exports() -> Iterator[list[bytes]]:
    for _ in range(60):
        yield [get("/events", "Accept: application/x-ndjson\r\n")]


def no_requests() -> Iterator[list[bytes]]:
    for _ in range(100):
        yield [get("/healthz") + b"x" * 200_000]


def long_heads() -> Iterator[list[bytes]]:
    """From as many connections as the others leave: more would keep those out."""
    head = POST.format(kind="application/json", size=100).replace("\r\n\r\n", f"\r\n{LONG}\r\n")
    for _ in range(550):
        yield [head.encode() + b"["]


PARTS = (
    uploads,
    many_small,
    careful,
    deaf_publishers,
    deaf_readers,
    deaf_followers,
    deaf_exports,
    no_requests,
    long_heads,
)


@asynccontextmanager
async def attacked(service: Service, *parts: object) -> AsyncIterator[None]:
    """All connections of these parts, at once."""
    async with AsyncExitStack() as stack:
        gate = asyncio.Event()
        tasks = []
        for part in parts:
            for sent in part():  # type: ignore[operator]
                client = Client(service)
                stack.callback(client.close)
                tasks.append(asyncio.create_task(_send(client, sent, gate)))
        await asyncio.sleep(4)
        gate.set()
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(client: Client, parts: list[bytes], gate: asyncio.Event) -> None:
    """Send them; nothing stands for a wait until everybody else has come as far."""
    if b"" in parts:
        place = parts.index(b"")
        first = asyncio.create_task(client.send(*parts[:place], *[b" "]))
        await gate.wait()
        await asyncio.sleep(0)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            await loop.sock_sendall(client._connection, parts[place + 1][1:])
        await asyncio.Event().wait()
    await client.send(*parts)


async def build(service: Service) -> None:
    """A store of a million events, and some large ones."""
    service.start()
    for number in range(EVENTS // BATCH):
        body = batch(f"stored {number}", BATCH, {"user": "ada", "amount": number})
        status, _ = await asyncio.to_thread(service.call, "/publish", body)
        assert status == 200
    for number in range(100):
        await asyncio.to_thread(service.publish, event(f"{number}", "large", payload=LARGE))
    await asyncio.to_thread(service.call, "/publish", batch("again", BATCH, {}))
    service.stop()


async def peak(folder: Path, *parts: object) -> tuple[int, int]:
    """MiB at most, and after the attack is over, of a service that is started for this."""
    with Service(folder) as service:
        service.start()
        async with attacked(service, *parts):
            await asyncio.sleep(SECONDS)
        await asyncio.sleep(2)
        status = (await asyncio.to_thread(service.call, "/healthz"))[0]
        assert status == 200
        return memory(service, "VmHWM"), memory(service)


async def main(folder: Path, names: list[str]) -> None:
    if not (folder / "data").exists():
        with Service(folder) as service:
            await build(service)
    chosen = [part for part in PARTS if part.__name__ in names]
    for name, parts in (
        ("nothing", ()),
        *((part.__name__, (part,)) for part in chosen or PARTS),
        *([] if chosen else [("all at once", PARTS)]),
    ):
        most, left = await peak(folder, *parts)
        print(f"{name:16} {most:5} MiB at most, {left:5} MiB after", flush=True)
    if not chosen:
        assert most < BOUND, f"{most} MiB is more than the {BOUND} MiB that are promised"


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        asyncio.run(main(Path(os.environ.get("STORED", made)), sys.argv[1:]))
