"""Opens a store and closes it, in a process that tests trace and kill: `opening.py URL`."""

import asyncio
import sys

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator_sqlite.store import SqliteStore


async def open_and_close(url: str) -> None:
    """As a start and a stop of the service do."""
    store = SqliteStore(url)
    await store.open(DEFAULT_KEY_SPEC)
    await store.close()


if __name__ == "__main__":
    asyncio.run(open_and_close(sys.argv[1]))
