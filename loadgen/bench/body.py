"""Bodies of requests, made beforehand and kept in a file, record by record."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from loadgen.bench.event import Row, as_cloudevent, as_json, row

RESENT = 5
"""Every fifth event is one that was sent before: 20 %."""
RECENT = 5_000
"""Of so many events before it."""
POOL = 30_000
"""Events of which all are sent again."""

# How the events of a request are written down.


def one(events: list[Row]) -> str:
    (event,) = events
    return as_json(event)


def array(events: list[Row]) -> str:
    return f"[{','.join(map(as_json, events))}]"


def blanks(events: list[Row]) -> str:
    """As most libraries write JSON: a blank after each comma and colon."""
    return json.dumps(json.loads(array(events)))


def lines(events: list[Row]) -> str:
    return "".join(f"{as_json(event)}\n" for event in events)


def cloudevents(events: list[Row]) -> str:
    return f"[{','.join(map(as_cloudevent, events))}]"


# Which events are sent: the numbers of those that stand at the positions.


def new(positions: range) -> Iterable[int]:
    return positions


def fifth_again(positions: range) -> Iterator[int]:
    """Each resent event is one of the last that are new, as retries are."""
    random = Random(positions.start)
    for place, position in enumerate(positions):
        if place % RESENT != RESENT - 1:
            yield position
            continue
        before = random.randrange(max(0, place - RECENT), place)
        yield positions[before - (before % RESENT == RESENT - 1)]


def all_again(positions: range) -> Iterator[int]:
    """Those of the first positions over and over, each time in another order."""
    random = Random(positions.start)
    pool, left = list(positions[:POOL]), len(positions)
    while left > 0:
        random.shuffle(pool)
        yield from pool[:left]
        left -= len(pool)


@dataclass(frozen=True)
class Shape:
    """What one request looks like, and which events they are."""

    size: int
    form: Callable[[list[Row]], str] = array
    content_type: str = "application/json"
    is_ordered: bool = False
    choice: Callable[[range], Iterable[int]] = new

    @property
    def name(self) -> str:
        ordered = "-ordered" * self.is_ordered
        return f"{self.form.__name__}-{self.size}{ordered}-{self.choice.__name__}"

    def unique(self, events: int) -> int:
        """How many of the events sent first are sent for the first time."""
        return len(set(self.choice(range(events))))

    def events(self, start: int, count: int) -> Iterator[Row]:
        for number in self.choice(range(start, start + count)):
            yield row(number, ordered=self.is_ordered)


CLOUDEVENTS = Shape(100, cloudevents, "application/cloudevents-batch+json")


def write_bodies(path: Path, shape: Shape, events: int, start: int = 0) -> Path:
    """Each record is its length in a line of its own, then the body. Whole requests only."""
    coming = shape.events(start, events - events % shape.size)
    with path.open("wb") as file:
        while batch := list(islice(coming, shape.size)):
            body = shape.form(batch).encode()
            file.write(b"%d\n%b" % (len(body), body))
    return path


def read_bodies(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while length := file.readline():
            yield file.read(int(length))
