"""Tells the filter which keys are in runs, beside what goes on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aggregator.errors import StoreError
from aggregator_sqlite.connection import Thread
from aggregator_sqlite.known import Known
from aggregator_sqlite.runs import LEAVES_AT_ONCE, Run

log = logging.getLogger(__name__)

_PAUSE = 60.0  # seconds until it is tried again

Connect = Callable[[], Awaitable[Thread]]


async def learn(known: Known, runs: Callable[[], Sequence[Run]], connect: Connect) -> None:
    """Add the keys of the runs, on a connection of its own. Until then keys are looked for."""
    added: dict[int, int] = {}
    while not known.is_complete:
        known.is_learning = True
        try:
            await _read(known, runs(), connect, added)
            known.is_complete = True
        except StoreError as error:
            log.error("new events take longer for the time being: %s", error)
            await asyncio.sleep(_PAUSE)
        finally:
            known.is_learning = False


async def _read(known: Known, runs: Sequence[Run], connect: Connect, added: dict[int, int]) -> None:
    """Go on where it has ended last: `added` has how many leaves of each run, by its id.

    The filter grows with what is added to it, known to it or not.
    """
    reader = await connect()
    try:
        for run in runs:
            for first in range(added.get(run.id, 0), len(run.fences), LEAVES_AT_ONCE):
                known.add(await reader.run(run.some_keys, first, LEAVES_AT_ONCE))
                added[run.id] = first + LEAVES_AT_ONCE
    finally:
        await reader.close()
