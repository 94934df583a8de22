"""`aggregator change-key`: changes what the keys of a store are made of."""

import asyncio
import sys
from typing import Any

import click

from aggregator.cli.options import fail, load_or_fail, with_settings
from aggregator.errors import AggregatorError, SettingError
from aggregator.plugins import Plugins
from aggregator.store import Store

_MEANING = """\
the keys of the events stored so far are made of  {kept}
those of events that come from now on would be of {wanted}

An event that is stored, and is sent again after the change, is new: it is stored once more, under
its new key. What is stored does not change, and is found as before. Changing back makes those
events new that were stored in between.
"""


@click.command(name="change-key")
@click.option("--yes", is_flag=True, help="Do it; without this, only say what it means.")
@with_settings("store", "key")
def command(yes: bool, **flags: Any) -> None:
    """Make the keys of a store of something else.

    From now on they are made of what the settings say, those of topics in the file among them. Stop
    the service before.

    \b
    Example:
      aggregator change-key --key topic,/order/id         (says what it means)
      aggregator change-key --key topic,/order/id --yes   (does it)

    \b
    Exit status:
      0  the keys are made of that
      1  they are not yet: --yes was not given
      2  it cannot be done; why is said
    """
    configuration = load_or_fail(flags)
    try:
        store = Plugins.installed().store(configuration.settings)
        changing = change_key(store, configuration.policies.key_spec, yes)
        is_done, told = asyncio.run(changing)
    except AggregatorError as error:
        fail(error)
    click.echo(told)
    sys.exit(0 if is_done else 1)


async def change_key(store: Store, wanted: str, is_agreed: bool) -> tuple[bool, str]:
    """Whether the store's keys are made as wanted, and what to tell the operator.

    Raises SettingError or StoreError where there is no store, or it cannot be opened.
    """
    kept = await store.key_spec()
    if kept is None:
        raise SettingError(f"store: there is none yet: {store.about()}")
    if kept == wanted:
        return True, f"the keys are made of {wanted} already"
    meaning = _MEANING.format(kept=kept, wanted=wanted)
    if not is_agreed:
        return False, f"{meaning}\nNothing is changed. Add --yes to do it."
    try:
        await store.open(wanted, replaces=kept)
    finally:
        await store.close()
    return True, f"{meaning}\nDone."
