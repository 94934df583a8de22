"""Copies a store into a file, and says what is in the copy."""

import time
from pathlib import Path

from aggregator.store import Backup, Store


async def backup(store: Store, destination: Path) -> str:
    """Write the copy; what to tell the operator about it.

    Raises SettingError or StoreError where there is no store, or no copy of it can be written.
    """
    begun = time.monotonic()
    made = await store.backup(destination)
    return _told(made, destination, time.monotonic() - begun)


def _told(made: Backup, destination: Path, seconds: float) -> str:
    plural = "s" * (made.events != 1)
    told = (
        f"{destination}: {made.events:,} event{plural} up to seq {made.last_seq}, "
        f"{made.size:,} bytes, in {seconds:.1f} s"
    )
    if removed := made.stored - made.events:
        told += f"\n{removed:,} that were stored too had been removed from the store before"
    return told
