"""`aggregator drop-index`: drops what the store keeps to find events by a field."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import click

from aggregator.cli.options import fail, load_or_fail, with_settings
from aggregator.config import Configuration
from aggregator.errors import AggregatorError, SettingError
from aggregator.plugins import Plugins
from aggregator.store import IndexesFields, Store


@click.command(name="drop-index")
@click.argument("pointers", nargs=-1, metavar="[POINTER]...")
@click.option("--yes", is_flag=True, help="Do it; without this, only say what it means.")
@with_settings("store", "indexed")
def command(pointers: tuple[str, ...], yes: bool, **flags: Any) -> None:
    """Drop the index of fields of payloads.

    POINTER is a JSON pointer that the setting `indexed` names no more: else the next start would
    make its index again. Without any, it says what is indexed. Stop the service before.

    \b
    Example:
      aggregator drop-index                   (says what is indexed)
      aggregator drop-index /user/id          (says what it means)
      aggregator drop-index /user/id --yes    (does it)

    \b
    Exit status:
      0  it is dropped, or was only asked for
      1  it is not dropped yet: --yes was not given
      2  it cannot be done; why is said
    """
    configuration = load_or_fail(flags)
    try:
        store = Plugins.installed().store(configuration.settings)
        dropping = drop_index(store, configuration, pointers, is_agreed=yes)
        is_done, told = asyncio.run(dropping)
    except AggregatorError as error:
        fail(error)
    click.echo(told)
    sys.exit(0 if is_done else 1)


async def drop_index(
    store: Store, configuration: Configuration, pointers: Sequence[str], *, is_agreed: bool
) -> tuple[bool, str]:
    """Whether it is done, and what to tell the operator.

    Raises SettingError or StoreError where there is no store, or no such index in it.
    """
    if not isinstance(store, IndexesFields):
        raise SettingError(f"store: this one indexes no fields: {store.about()}")
    if await store.key_spec() is None:
        raise SettingError(f"store: there is none yet: {store.about()}")
    await store.open(configuration.policies.key_spec)
    try:
        indexed = await store.indexed()
        if not pointers:
            return True, _told(indexed, configuration.indexed)
        _check(pointers, indexed, configuration.indexed)
        stored = (await store.counters()).stored
        if not is_agreed:
            return False, (
                f"the index of {', '.join(pointers)} over {stored:,} stored events would go. They "
                "are found by it no more but by a scan; to make it again, a start reads them all.\n"
                "\nNothing is changed. Add --yes to do it."
            )
        await store.drop_index(pointers)
    finally:
        await store.close()
    return True, f"dropped the index of {', '.join(pointers)}"


def _check(pointers: Sequence[str], indexed: Sequence[str], named: Sequence[str]) -> None:
    faults = [f"{one}: is not indexed" for one in pointers if one not in indexed]
    faults += [
        f"{one}: the setting `indexed` names it, so the next start would make its index again"
        for one in pointers
        if one in named
    ]
    if faults:
        raise SettingError("\n".join(faults))


def _told(indexed: Sequence[str], named: Sequence[str]) -> str:
    if not indexed:
        return "no field is indexed"
    return "\n".join(
        f"{one}  {'named' if one in named else 'not named'} by the setting `indexed`"
        for one in indexed
    )
