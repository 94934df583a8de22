"""Readers who ask for much and read nothing cost the service neither memory nor its other work."""

import asyncio

from events import event
from running import Service

READERS = 60


def _peak(service: Service) -> int:
    with open(f"/proc/{service.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if "VmHWM" in line) // 1024


async def _ask(port: int) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /events?limit=1000 HTTP/1.1\r\nHost: tests\r\n\r\n")
    return writer


async def test_readers_who_never_read_are_cut_off_in_bounded_memory(service: Service) -> None:
    url = service.start("--answer-timeout", "2")
    large = {"filler": "x" * 1_000_000}
    for number in range(12):
        assert service.publish(event(str(number), payload=large))[0] == 200
    before = _peak(service)
    port = int(url.rpartition(":")[2])
    writers = [await _ask(port) for _ in range(READERS)]

    async def until_200(path: str) -> None:
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(service.call, path))[0] != 200:
                await asyncio.sleep(0.05)

    for number in range(20):  # publishers do not wait for what readers do not read
        told = await asyncio.to_thread(service.publish, event(f"small {number}"))
        assert told[0] == 200
    await until_200("/events?limit=1000")
    # Measured: 110 MiB; 570 MiB without a bound on what waits to be read.
    assert _peak(service) - before < 256
    for writer in writers:
        writer.close()
