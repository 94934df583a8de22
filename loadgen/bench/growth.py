"""A store grows: in turns with one of SQLite alone, or where it gets nothing but CloudEvents."""

import shutil
from collections.abc import Iterable, Iterator
from operator import attrgetter

from loadgen.bench.body import CLOUDEVENTS, Shape, write_bodies
from loadgen.bench.contestant import Place
from loadgen.bench.errors import TROUBLE, RoundError
from loadgen.bench.limits import BareSqlite
from loadgen.bench.load import publish, publish_at
from loadgen.bench.ours import Ours
from loadgen.bench.process import Process
from loadgen.bench.results import Growth, Paced, Step
from loadgen.bench.turns import Say

FIRST = 100_000
STEPS = 20
BEGINNINGS = 3
"""Stores that come to the first size; of these the median, for it takes but a second."""
PATIENCE = 240.0
"""Seconds of one step, after which whoever is not done grows no further."""
PACED = 4.0
"""Seconds for which latency is looked at in each step."""
CONNECTIONS = 16


def sizes(end: int) -> Iterator[int]:
    """Where the steps end: at the first size, then evenly up to the last."""
    yield min(FIRST, end)
    step = round_up(end / STEPS)
    size = step
    while size < end:
        if size > FIRST:
            yield size
        size += step
    if end > FIRST:
        yield end


def round_up(value: float) -> int:
    """To a whole number of steps of bare SQLite."""
    return max(1, -int(-value // BareSqlite.size)) * BareSqlite.size


class Grower:
    """The service with one store, through all steps."""

    def __init__(self, ours: Ours, place: Place, process: Process, port: int) -> None:
        self._ours = ours
        self._shape = ours.shape
        self._place = place
        self._process = process
        self._port = port
        self._size = 0

    def grow(self, size: int) -> Step:
        before = self._process.written()
        step = self._step(size)
        after = self._process.written()
        if before is not None and after is not None:
            step.written = after - before
        step.memory = self._process.use().memory
        return step

    def _step(self, size: int) -> Step:
        """Most of the step as fast as it goes, then the rest on a schedule at half of that."""
        began = self._size
        paced = (size - began) // 5
        requests, seconds = self._at_once(size - began - paced)
        rate = requests / seconds / 2
        step = Step(size, requests * self._shape.size, seconds)
        step.paced = self._on_schedule(rate, min(paced, int(rate * PACED) * self._shape.size))
        if self._size < size:
            self._at_once(size - self._size)
        return step

    def _at_once(self, events: int) -> tuple[int, float]:
        path = write_bodies(self._place.bodies / "growing", self._shape, events, self._size)
        sent = publish(self._ours.target(self._port), path, CONNECTIONS, PATIENCE)
        self._has_grown(sent.requests)
        if sent.requests * self._shape.size < events:
            raise RoundError(f"{events:,} events took longer than {PATIENCE:g} s")
        return sent.requests, sent.seconds

    def _on_schedule(self, rate: float, events: int) -> Paced | None:
        if events < self._shape.size:
            return None
        path = write_bodies(self._place.bodies / "growing", self._shape, events, self._size)
        target = self._ours.target(self._port)
        sent = publish_at(rate, target, path, CONNECTIONS, events / self._shape.size / rate + 1)
        self._has_grown(sent.requests)
        return Paced(rate, sent.requests, sent.latency, sent.late)

    def _has_grown(self, requests: int) -> None:
        self._size += requests * self._shape.size
        stored = self._ours.stored(self._place, self._port)
        if stored != self._size:
            raise RoundError(f"{self._size:,} events should be stored, and {stored:,} are")


def grow(end: int, python: str, place: Place, say: Say) -> Growth:
    """Both up to so many random keys."""
    ours = Ours("ours-100", "", Shape(100), CONNECTIONS, python)
    begun = [steps(sizes(min(FIRST, end)), ours, place, say) for _ in range(BEGINNINGS - 1)]
    growth = steps(sizes(end), ours, place, say)
    begun.append(growth)
    growth.ours[:1] = middle(one.ours[0] for one in begun if one.ours)
    growth.bare[:1] = middle(one.bare[0] for one in begun if one.bare)
    return growth


def grow_cloudevents(end: int, python: str, place: Place, say: Say) -> Growth:
    """The service alone."""
    ours = Ours("ours-cloudevents", "", CLOUDEVENTS, CONNECTIONS, python)
    return steps(sizes(end), ours, place, say, has_bare=False)


def middle(found: Iterable[Step]) -> list[Step]:
    """That of the median rate; none if there are none."""
    ordered = sorted(found, key=attrgetter("rate"))
    return ordered[len(ordered) // 2 :][:1]


def steps(
    sizes: Iterable[int], ours: Ours, place: Place, say: Say, *, has_bare: bool = True
) -> Growth:
    """Through these sizes, from empty stores on."""
    growth = Growth()
    bare = Place(place.cache, place.bodies, place.data.with_name("bare"))
    place.data.mkdir()
    bare.data.mkdir()
    try:
        with ours.running(place) as (process, port):
            grower = Grower(ours, place, process, port)
            for size in sizes:
                growth.ours.append(grower.grow(size))
                if has_bare and not growth.trouble:
                    step_of_bare(growth, bare, size)
                say(shown(growth))
    except TROUBLE as error:
        growth.trouble = f"this service: {error}"
        say(f"  growth ended: {error}")
    finally:
        shutil.rmtree(place.data)
        shutil.rmtree(bare.data)
    return growth


def step_of_bare(growth: Growth, place: Place, size: int) -> None:
    before = growth.bare[-1].size if growth.bare else 0
    found = BareSqlite().insert(place, size - before, PATIENCE, before)
    growth.bare.append(Step(before + found.events, found.events, found.seconds))
    if found.events < size - before:
        growth.trouble = (
            f"bare SQLite was given up at {before + found.events:,}: the step took longer than "
            f"{PATIENCE:g} s"
        )


def shown(growth: Growth) -> str:
    step = growth.ours[-1]
    p99 = f"{step.paced.latency['p99']:.1f} ms" if step.paced else "–"
    memory = f"{step.memory / 2**20:.0f} MiB" if step.memory else "–"
    beside = f"{growth.bare[-1].rate:,.0f}" if len(growth.bare) == len(growth.ours) else "–"
    line = f"  {step.size:>11,} events: {step.rate:>9,.0f} events/s, p99 {p99}, {memory}"
    return f"{line}; bare SQLite {beside} events/s" if growth.bare else line
