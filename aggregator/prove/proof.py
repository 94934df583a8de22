"""What is to be proved, and what is known of it so far."""

import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from aggregator.prove.answers import Answers
from aggregator.prove.plan import Point

OVER = "over"


@dataclass(frozen=True)
class Options:
    """What is proved, where, and for how long; `seconds` are those in which it is killed."""

    folder: Path
    store: str
    queue: str
    kills: int
    seconds: float
    seed: int
    connections: int


@dataclass
class Proof:
    """What is known so far."""

    options: Options
    answers: Answers = field(default_factory=Answers)
    kills: Counter[Point] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    """Seconds from each start until the service was ready."""
    lost: int | None = None
    doubled: int | None = None
    """Both are known in the end, if the service could be asked."""
    seconds: float = 0.0
    phase: str = "starting"

    @property
    def is_kept(self) -> bool:
        """Whether every promise was."""
        return not self.answers.breaches

    @property
    def median_start(self) -> float:
        """Seconds."""
        return statistics.median(self.starts) if self.starts else 0.0
