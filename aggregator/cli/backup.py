"""`aggregator backup`: copies a store into a file, and says what is in the copy."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import click

from aggregator.cli.options import fail, load_or_fail, with_settings
from aggregator.errors import AggregatorError, SettingError
from aggregator.plugins import Plugins
from aggregator.store import BacksUp, Backup, Store


@click.command(name="backup")
@click.argument("destination", type=click.Path(path_type=Path))
@with_settings("store")
def command(destination: Path, **flags: Any) -> None:
    """Write a copy of the store to a new file.

    The service may run meanwhile. DESTINATION must not be there yet; it is there once the copy is
    whole and on disk.

    \b
    Example:
      aggregator backup --store sqlite:///data/aggregator.db /backups/monday.db

    \b
    Exit status:
      0  the copy is made
      1  it was interrupted
      2  no copy was made; why is said
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up as Ctrl-C does
    configuration = load_or_fail(flags)
    try:
        store = Plugins.installed().store(configuration.settings)
        click.echo(asyncio.run(backup(store, destination)))
    except AggregatorError as error:
        fail(error)


async def backup(store: Store, destination: Path) -> str:
    """Write the copy; what to tell the operator about it.

    Raises SettingError or StoreError where there is no store, or no copy of it can be written.
    """
    if not isinstance(store, BacksUp):
        raise SettingError(f"store: no backup can be made of this one: {store.about()}")
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
