"""The contract of whoever is measured."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from loadgen.bench.body import Shape, write_bodies
from loadgen.bench.results import Contest, Effort, Paced, Round

GROUPS = {"limits": "Limits", "ours": "This service", "peers": "Others doing the same job"}


@dataclass(frozen=True)
class Place:
    """Where a run keeps things: what lasts, what is shared by its turns, and one turn's own."""

    cache: Path
    bodies: Path
    data: Path

    def bodies_of(self, shape: Shape, events: int) -> Path:
        """Made once, and the same for everybody who sends this shape."""
        path = self.bodies / f"{shape.name}-{events}"
        return path if path.exists() else write_bodies(path, shape, events)


class Contestant(ABC):
    """One line of the table. Its turns are independent: each begins with nothing stored."""

    name: str
    group: str
    title: str
    size = 1
    connections = 0
    promise: str
    """What is true once it has answered, and how long."""
    note = ""
    is_same = False
    """Whether it promises all that this service does."""

    def prepare(self, place: Place) -> None:  # noqa: B027 most have nothing to prepare
        """Installs what it needs. Raises UnavailableError with the reason when it cannot be had."""

    @abstractmethod
    def turn(self, place: Place, effort: Effort) -> Round:
        """Stores up to so many events on an empty store, and checks that exactly they are stored.

        Raises RoundError.
        """

    def paced(self, place: Place, effort: Effort, rate: float) -> Paced | None:  # noqa: ARG002
        """Answers at so many events a second; None for whom this is not asked."""
        return None

    def contest(self) -> Contest:
        return Contest(
            self.name,
            self.group,
            self.title,
            self.size,
            self.connections,
            self.promise,
            self.note,
            self.is_same,
        )
