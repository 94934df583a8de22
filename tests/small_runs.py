"""An index of keys that makes and merges runs all the time, as a large one does now and then."""

import pytest

from aggregator_sqlite import key_index, runs


def make_runs_small(patch: pytest.MonkeyPatch, in_memory: int = 3, at_once: int = 5) -> None:
    """Until the patch is undone."""
    patch.setattr(key_index, "KEYS_IN_MEMORY", in_memory)
    patch.setattr(runs, "RUNS_PER_LEVEL", 2)
    patch.setattr(runs, "KEYS_PER_STEP", at_once)
