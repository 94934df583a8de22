"""The pipeline keeps its promises in thousands of histories, each drawn from a seed.

A failure tells its seed, and `pytest tests/simulation --seed N` repeats it.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable

import pytest
from msgspec import structs

from simulation.ledger import Ledger
from simulation.life import run_history

FEW = 100
LONG = 60.0  # seconds


def told(seed: int) -> Ledger:
    """What came of the history. Raises AssertionError with its seed."""
    try:
        return run_history(seed)
    except Exception as error:
        raise AssertionError(f"--seed {seed}: {error}") from error


def happened(seeds: Iterable[int]) -> Counter[str]:
    """How often what a history may have has happened."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        ledger = told(seed)
        seen.update(structs.asdict(ledger.disk.counters))
        seen.update(failed=len(ledger.nothing), unknown=ledger.unsure, excused=len(ledger.excused))
    return seen


def test_histories_keep_every_promise(request: pytest.FixtureRequest) -> None:
    if (seed := request.config.getoption("--seed")) is not None:
        told(seed)
        return
    seen = happened(range(FEW))
    assert {name for name, times in seen.items() if not times} == {"evicted"}, seen


def test_many_histories_keep_every_promise() -> None:
    seed = int.from_bytes(os.urandom(6))
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        told(seed)
        seed += 1


def test_seed_repeats_a_history() -> None:
    one, other = told(7).disk, told(7).disk
    assert [(event.submission, event.index) for event in one.events] == [
        (event.submission, event.index) for event in other.events
    ]
    assert one.counters == other.counters
    assert one.events
