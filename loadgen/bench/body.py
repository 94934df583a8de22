"""Bodies of requests, made beforehand and kept in a file, record by record."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from loadgen.bench.event import Row, as_json, row

RESENT = 5
"""With duplicates, every fifth event is one that was sent before: 20 %."""


def one(events: list[Row]) -> str:
    (event,) = events
    return as_json(event)


def array(events: list[Row]) -> str:
    return f"[{','.join(map(as_json, events))}]"


def lines(events: list[Row]) -> str:
    return "".join(f"{as_json(event)}\n" for event in events)


@dataclass(frozen=True)
class Shape:
    """What one request looks like, and which events they are."""

    size: int
    form: Callable[[list[Row]], str] = array
    content_type: str = "application/json"
    is_ordered: bool = False
    has_duplicates: bool = False

    @property
    def name(self) -> str:
        return (
            f"{self.form.__name__}-{self.size}{'-ordered' * self.is_ordered}"
            f"{'-duplicates' * self.has_duplicates}"
        )

    def unique(self, events: int) -> int:
        """How many of the events sent first are no duplicates."""
        return events - events // RESENT if self.has_duplicates else events

    def events(self, start: int, count: int) -> Iterator[Row]:
        for position in range(start, start + count):
            yield row(self._number(position), ordered=self.is_ordered)

    def _number(self, position: int) -> int:
        """A resent event is some earlier position's, and never a resent one itself."""
        if not self.has_duplicates or position % RESENT != RESENT - 1:
            return position
        return position * 7919 % position // RESENT * RESENT


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
