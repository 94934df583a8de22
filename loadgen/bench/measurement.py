"""A whole run, from an empty folder to results."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadgen.bench.contestant import Contestant, Place
from loadgen.bench.filled import measure_filled
from loadgen.bench.growth import grow, grow_cloudevents
from loadgen.bench.machine import machine, versions
from loadgen.bench.memory import filled
from loadgen.bench.results import Effort, Growth, Results
from loadgen.bench.turns import Prepared, prepared, take_times, take_turns, workplace

BUSY = 0.5
CLOUDEVENTS = 5
"""Of the events to which a store grows, those that are CloudEvents in a store of their own are one
in so many."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    contestants: list[Contestant]
    effort: Effort
    filled: int
    """Events in the store that is published to and read; 0 is not at all."""
    growth: int
    """Random keys to grow to; 0 is not at all."""
    folder: Path
    """On the disk that is measured."""
    python: str
    """Whose `aggregator` is measured."""
    fills_memory: bool = False
    """Whether stores grow where no memory is free."""


def measure(order: Order, say: Say) -> Results:
    effort = order.effort
    if (load := os.getloadavg()[0]) > BUSY:
        say(f"this machine is busy with something else: its load is {load:.1f}")
    with workplace(order.folder) as place:
        results = Results(
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            machine(order.folder),
            versions(order.python),
            effort,
        )
        entries: list[Prepared] = []
        with timed(results, "installing the peers"):
            results.contests, entries = prepared(order.contestants, place, say)
        with timed(results, "rates"):
            take_turns(entries, place, effort, say)
        with timed(results, "latencies"):
            take_times(entries, place, effort, say)
        if order.filled:
            with timed(results, "a filled store"):
                results.filled = measure_filled(order.filled, effort, order.python, place, say)
        if order.growth:
            with timed(results, "growth of CloudEvents"):
                cloudevents = order.growth // CLOUDEVENTS
                results.cloudevents = grow_cloudevents(cloudevents, order.python, place, say)
            with timed(results, "growth"):
                results.growth = grown(order, place, say)
    return results


def grown(order: Order, place: Place, say: Say) -> Growth:
    if not order.fills_memory:
        return grow(order.growth, order.python, place, say)
    try:
        with filled(order.folder):
            growth = grow(order.growth, order.python, place, say)
    except OSError as error:
        return Growth(trouble=f"memory is not filled: {error}")
    growth.is_memory_filled = True
    return growth


@contextmanager
def timed(results: Results, part: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    results.took[part] = round(time.monotonic() - began, 1)
