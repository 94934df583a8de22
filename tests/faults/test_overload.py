"""Publishers are faster than the disk for a while: some are told to wait, and memory stays flat."""

import asyncio

import pytest
from flood import Flood, memory

from running import Service, until
from tracing import syncs

SLOW = "delay_enter=300000"  # microseconds
EVENTS = 2_000
FEW_EVENTS = ("--queue-events", f"{EVENTS}", "--max-events", "1000")
FEW_BYTES = ("--queue-bytes", "4000000", "--max-body", "2000000")
BOUND = 96
"""MiB of memory beyond the start; 40 publishers offer half a megabyte each."""


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("flags", "filler", "reason"),
    [
        (FEW_EVENTS, 10, "Too many events are under way (queue_events)"),
        (FEW_BYTES, 5_000, "Too many bytes of requests are under way"),
    ],
    ids=["events", "bytes"],
)
async def test_publishers_who_are_too_fast_are_told_to_wait_in_bounded_memory(
    service: Service, flags: tuple[str, ...], filler: int, reason: str
) -> None:
    service.start(*flags)
    before = memory(service)
    async with Flood(service, publishers=40, events=100, filler=filler, every=0.1) as flood:
        with syncs(service, SLOW):
            async with asyncio.timeout(30):
                while flood.answers[503] < 60 or flood.answers[200] < 10:
                    _, stats = await asyncio.to_thread(service.call, "/stats")
                    assert stats["queue_size_current"] <= EVENTS
    assert any(reason in told for told in flood.reasons), flood.reasons
    assert memory(service, "VmHWM") - before < BOUND
    until(lambda: service.call("/stats")[1]["queue_size_current"] == 0, "all is settled")
    service.kill()
    flood.check_kept(service.folder / "data" / "aggregator.db")
