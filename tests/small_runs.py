"""An index of keys that makes and merges runs all the time, as a large one does now and then."""

import pytest

from aggregator_sqlite import index, merging


def make_runs_small(patch: pytest.MonkeyPatch, in_memory: int = 3, at_once: int = 5) -> None:
    """Until the patch is undone."""
    patch.setattr(index, "IN_MEMORY", in_memory)
    patch.setattr(index, "ALIKE", 2)
    for module in (index, merging):
        patch.setattr(module, "AT_ONCE", at_once)
