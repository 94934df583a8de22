"""How long the event loop goes without a turn."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_OFTEN = 0.001  # seconds


@dataclass
class Turns:
    """The longest that was seen between two turns, in seconds."""

    processor: float = 0.0
    """Processor time of the process, all threads included."""
    clock: float = 0.0


@asynccontextmanager
async def watched() -> AsyncIterator[Turns]:
    """Look at the loop meanwhile."""
    turns = Turns()
    watching = asyncio.create_task(_watch(turns))
    await asyncio.sleep(0)
    try:
        yield turns
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(turns: Turns) -> None:
    while True:
        processor, clock = time.process_time(), time.monotonic()
        await asyncio.sleep(_OFTEN)
        turns.processor = max(turns.processor, time.process_time() - processor)
        turns.clock = max(turns.clock, time.monotonic() - clock)
