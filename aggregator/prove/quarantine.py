"""Holds the quarantine against what was answered, and releases what failed."""

import asyncio
import time
from collections import Counter
from contextlib import suppress

from aggregator.client import ClientError, QuarantineEntry
from aggregator.prove.journal import JournaledClient, Promise
from aggregator.prove.workload import Publishers, Sent

_PAUSE = 0.1  # seconds between two looks, or tries
_PATIENCE = 5.0  # seconds for what is tried again
_AT_ONCE = 10  # events that are released between two looks


class QuarantineCheck:
    """Compares what is in quarantine with what was said to be kept there."""

    def __init__(self, client: JournaledClient) -> None:
        self._client = client
        self._journal = client.journal
        self._seen: dict[int, Sent] = {}

    async def check(self) -> None:
        """Compare, and drop what is not to be released. Raises ClientError."""
        entries = await self._client.quarantined()
        self._see(entries)
        counted = (await self._client.stats()).quarantined
        if counted != len(entries):
            self._note("quarantined is not the number of events there", f"{counted}")
        seen = Counter(self._seen.values())
        journal = self._journal
        for sent in seen.keys() | journal.set_aside.keys():
            least = journal.set_aside[sent]
            most = least + journal.maybe_set_aside[sent]
            if not least <= seen[sent] <= most:
                how = "an event is not so often in quarantine as was answered"
                self._note(how, f"{seen[sent]}, not {least} to {most}, of {sent}")
        for reason in ("conflict", "invalid"):
            await self._drop(reason)

    async def nowhere(self, stored: set[str]) -> list[str]:
        """Those of the events answered 202 that are neither stored nor in quarantine.

        What is no good event may have been dropped since it was seen there. Raises ClientError.
        """
        entries = await self._client.quarantined()
        self._see(entries)
        kept = {Sent.of(entry.body) for entry in entries}
        once = set(self._seen.values())
        return [
            sent.name
            for sent in self._journal.accepted.owed
            if not (sent in kept or (sent.name in stored if sent.kind == "good" else sent in once))
        ]

    async def _drop(self, reason: str) -> None:
        """Drop what is there for that reason, again and again while the store fails on purpose."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._client.drop_all(reason)
            except ClientError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE)

    def _see(self, entries: list[QuarantineEntry]) -> None:
        self._seen |= {entry.id: Sent.of(entry.body) for entry in entries}

    def _note(self, how: str, example: str) -> None:
        self._journal.breaches.note(Promise.COUNTED, how, example)


class Releaser:
    """Releases, while others publish, the events that failed after they were answered 202."""

    def __init__(self, client: JournaledClient, publishers: Publishers) -> None:
        self._client = client
        self._publishers = publishers
        self.released = 0
        """Events that were stored so, or were stored already."""

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            with suppress(ClientError):  # it is tried again
                await self._publishers.do(self._release)
            await asyncio.sleep(_PAUSE)

    async def _release(self) -> None:
        failed = await self._client.quarantined("failed")
        good = (entry for entry in failed if Sent.of(entry.body).kind == "good")
        for entry, _ in zip(good, range(_AT_ONCE), strict=False):
            self.released += await self._client.receive_anew(Sent.of(entry.body), entry.id)
