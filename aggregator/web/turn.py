"""Lets a few readers at a time at the store, so that what they read stays bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aggregator.store import Store
from aggregator.web.sending import Sender


class Turn:
    """Readers take turns for each page, in the order in which they ask."""

    def __init__(self, store: Store, sender: Sender, places: int) -> None:
        self._store = store
        self._sender = sender
        self._places = asyncio.Semaphore(places)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Store]:
        """The store, for one page. Raises QueueFull while too much waits to be read."""
        async with self._places:
            self._sender.check_room()
            yield self._store
