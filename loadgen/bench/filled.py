"""A store that holds events already: published to in the ways that occur, in turns, and read."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from loadgen.bench.body import (
    CLOUDEVENTS,
    POOL,
    Shape,
    all_again,
    blanks,
    fifth_again,
    one,
    write_bodies,
)
from loadgen.bench.contestant import Place
from loadgen.bench.errors import TROUBLE, RoundError
from loadgen.bench.event import row
from loadgen.bench.limits import BareSqlite
from loadgen.bench.load import Sent, publish
from loadgen.bench.ours import Ours
from loadgen.bench.process import Process, between
from loadgen.bench.reads import take_reads
from loadgen.bench.results import Contest, Disk, Effort, Filled, Round
from loadgen.bench.turns import Say, take_turn

FILLING = 1000
"""Events a request while the store is filled; what is filled is in whole requests."""
LAST = 32
"""The events that are read as the last ones are one in so many of those that fill the store."""
PATIENCE = 600.0
"""Seconds for filling half a store, and for a turn."""


@dataclass(frozen=True)
class Mix:
    """One way to publish."""

    name: str
    title: str
    shape: Shape
    connections: int = 16


MIXES = (
    Mix("new", "new events", Shape(100)),
    Mix("blanks", "new events, JSON with blanks", Shape(100, blanks)),
    Mix("fifth-again", "20 % duplicates of the last 5,000", Shape(100, choice=fifth_again)),
    Mix("all-again", f"all duplicates, of {POOL:,}", Shape(100, choice=all_again)),
    Mix("cloudevents", "new CloudEvents, in batches", CLOUDEVENTS),
    Mix("one", "new events, one a request", Shape(1, one), 64),
)


class Store:
    """The service's, and that of SQLite alone beside it; every event has a number of its own."""

    def __init__(self, python: str, place: Place) -> None:
        self._python = python
        self._place = place
        self._bare = Place(place.cache, place.bodies, place.data.with_name("bare"))
        self._body = place.bodies / "filled"
        self._next = 0
        self.arrived = self.since = ""
        """When the last of those that fill it arrived, and the time of the first of them."""

    def fill(self, size: int) -> list[Disk]:
        """Half of it with CloudEvents. What they take is looked at when the service is stopped."""
        self._place.data.mkdir()
        self._bare.data.mkdir()
        if BareSqlite().insert(self._bare, size, PATIENCE, 0).events < size:
            raise RoundError(f"bare SQLite was not filled within {PATIENCE:g} s")
        half = Shape(FILLING, CLOUDEVENTS.form, CLOUDEVENTS.content_type)
        found = []
        for title, shape in (("CloudEvents", half), ("events", Shape(FILLING))):
            ours = self.ours(shape)
            before, began = disk(self._place.data), self._next
            with ours.running(self._place) as (process, port):
                count = size // 2 // FILLING * FILLING
                last = max(count // LAST // FILLING, 1) * FILLING
                sent = self._publish(ours, port, count - last)[1]
                self.arrived = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
                self.since = row(self._next).timestamp
                sent += self._publish(ours, port, last)[1]
                process.wait_until_idle()
            events = self._next - began
            found.append(Disk(title, events, sent, disk(self._place.data) - before))
        return found

    def ours(self, shape: Shape, connections: int = 16) -> Ours:
        return Ours("", "", shape, connections, self._python)

    def turn(self, mix: Mix, process: Process, port: int, effort: Effort) -> Round:
        """What it does after its answers counts too."""
        ours = self.ours(mix.shape, mix.connections)
        if mix.shape.choice is all_again:
            began = self._next
            self._publish(self.ours(Shape(100)), port, POOL)
            self._next = began
        process.wait_until_idle()
        before = process.use()
        sent, _ = self._publish(ours, port, mixed(ours.size, effort))
        process.wait_until_idle()
        after = process.use()
        self._next += POOL  # so that nothing of a pool is taken for new
        used = between(before, after)
        events = sent.requests * ours.size
        return Round(events, sent.seconds, sent.requests, used, after.memory, sent.processor)

    def turn_of_bare(self, effort: Effort) -> Round:
        began = self._next
        self._next += mixed(BareSqlite.size, effort)
        return BareSqlite().insert(self._bare, self._next - began, PATIENCE, began, again=True)

    def _publish(self, ours: Ours, port: int, events: int) -> tuple[Sent, int]:
        """The next events, and the bytes of their bodies."""
        shape, numbers = ours.shape, range(self._next, self._next + events)
        self._next = numbers.stop
        unique = 0 if shape.choice is all_again else len(set(shape.choice(numbers)))
        path = write_bodies(self._body, shape, events, numbers.start)
        before = ours.stored(self._place, port)
        sent = publish(ours.target(port), path, ours.connections, PATIENCE)
        stored = ours.stored(self._place, port) - before
        if stored != unique or sent.requests * shape.size != events:
            raise RoundError(f"of {events:,} events {unique:,} are new, and {stored:,} were stored")
        return sent, path.stat().st_size

    def remove(self) -> None:
        shutil.rmtree(self._place.data, ignore_errors=True)
        shutil.rmtree(self._bare.data, ignore_errors=True)


def mixed(size: int, effort: Effort) -> int:
    """Events of a turn, in whole requests: fewer than on an empty store, for ways are many."""
    return max(1, effort.of(size) // 4 // size) * size


def disk(folder: Path) -> int:
    """Bytes of all files but what the service has said."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return sum(path.stat().st_size for path in files)


def measure_filled(size: int, effort: Effort, python: str, place: Place, say: Say) -> Filled:
    """Filled once; it grows on in every turn."""
    found = Filled(size)
    store = Store(python, place)
    try:
        say(f"filling stores with {size:,} events")
        found.disks = store.fill(size)
        found.size = sum(one.events for one in found.disks)
        with store.ours(Shape(100)).running(place) as (process, port):
            process.wait_until_idle()
            found.reads = take_reads(port, store.arrived, store.since, say)
            found.mixes = take_mixes(store, process, port, effort, say)
    except TROUBLE as error:
        found.trouble = f"it ended early: {error}"
        say(f"  {found.trouble}")
    finally:
        store.remove()
    return found


def take_mixes(
    store: Store, process: Process, port: int, effort: Effort, say: Say
) -> list[Contest]:
    """Bare SQLite first, then the service in each way; one that fails does not stop the others."""
    title = "bare SQLite in a loop, 20 % duplicates of the last 5,000"
    bare = Contest("sqlite", "limits", title, BareSqlite.size, 0, BareSqlite.promise)
    turns = [(bare, partial(store.turn_of_bare, effort))]
    for mix in MIXES:
        contest = Contest(
            mix.name, "ours", mix.title, mix.shape.size, mix.connections, Ours.promise
        )
        turns.append((contest, partial(store.turn, mix, process, port, effort)))
    for number in range(effort.rounds):
        say(f"filled stores, round {number + 1} of {effort.rounds}")
        for contest, turn in turns:
            take_turn(contest, turn, say)
    return [contest for contest, _ in turns]
