"""An index of keys that makes and merges runs all the time, as a large one does now and then."""

import pytest

from aggregator_sqlite import key_index, runs


def make_runs_small(patch: pytest.MonkeyPatch, in_memory: int = 3, at_once: int = 5) -> None:
    """Until the patch is undone."""
    patch.setattr(key_index, "KEYS_IN_MEMORY", in_memory)
    patch.setattr(runs, "RUNS_PER_LEVEL", 2)
    patch.setattr(runs, "KEYS_PER_STEP", at_once)


def make_pages_small(patch: pytest.MonkeyPatch, entries: int = 4) -> None:
    """Runs have several pages, though they are small."""
    patch.setattr(runs, "PER_PAGE", entries)
    patch.setattr(runs, "PAGES_AT_ONCE", 3)
    patch.setattr(key_index, "PAGES_AT_ONCE", 3)


def make_filter_small(patch: pytest.MonkeyPatch, keys: int = 16) -> None:
    """There are several Bloom filters, and many a new key is looked up in vain."""
    patch.setattr(key_index, "_FIRST_CAPACITY", keys)
    patch.setattr(key_index, "_FALSE_POSITIVES", 0.1)
