"""Changes what the keys of a store are made of, once an operator knows what that means."""

from collections.abc import Sequence

from aggregator.errors import SettingError
from aggregator.store import Store

_MEANING = """\
the keys of the events stored so far are made of  {kept}
those of events that come from now on would be of {wanted}

An event that is stored, and is sent again after the change, is new: it is stored once more, under
its new key. What is stored does not change, and is found as before. Changing back makes those
events new that were stored in between.
"""


async def change_key(
    store: Store, wanted: str, indexed: Sequence[str], is_agreed: bool
) -> tuple[bool, str]:
    """Whether the store's keys are made as wanted, and what to tell the operator.

    Raises SettingError or StoreError where there is no store, or it cannot be opened.
    """
    kept = await store.recipe()
    if kept is None:
        raise SettingError(f"store: there is none yet: {store.about()}")
    if kept == wanted:
        return True, f"the keys are made of {wanted} already"
    meaning = _MEANING.format(kept=kept, wanted=wanted)
    if not is_agreed:
        return False, f"{meaning}\nNothing is changed. Add --yes to do it."
    try:
        await store.open(wanted, indexed, replaces=kept)
    finally:
        await store.close()
    return True, f"{meaning}\nDone."
