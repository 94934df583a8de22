"""Where the service is to die, life after life."""

from collections.abc import Iterator
from enum import Enum
from random import Random
from typing import NamedTuple


class Point(Enum):
    """A named point on an event's way, or a moment that an outsider chooses."""

    DECODED = "after decoding"
    CLAIMED = "after claiming"
    APPENDED = "after appending"
    COMMITTING = "before the commit"
    COMMITTED = "after the commit"
    ANSWERING = "before the answer"
    ANY = "at a random moment"
    STARTING = "while it opens its store"
    STOPPING = "while it stops"


class Kill(NamedTuple):
    """Where the service dies: at the point when it is reached for the nth time.

    At a random moment: after so many answers.
    """

    point: Point
    times: int
    chance: float
    """From 0 to 1: how much later a moment is that is chosen from outside."""


def kills(seed: int) -> Iterator[Kill]:
    """Kills without end, the same for the same seed; every point comes as often as the others."""
    random = Random(f"{seed} kills")
    while True:
        points = list(Point)
        random.shuffle(points)
        for point in points:
            yield Kill(point, 1 + int(random.expovariate(1 / 15)), random.random())
