"""What this process counts and times, in plain numbers; a package shows them to Prometheus.

Nothing here knows who looks at it: to count is one addition, and what is read at the moment of a
look (queue, store, counters) is not counted at all.
"""

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.25, 1, 5)
"""Upper bounds for the duration of a request: dense where an answer after a commit should be."""
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
WAIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5)
BATCH_EVENTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


LAG_LOOKED_AT = 0.5
"""Seconds between two looks at how late the event loop is."""
_LAGS = 120  # looks, of a minute: whoever asks seldom sees what has been between


class Histogram:
    """How many values were up to each bound, above the one before, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class Moments:
    """What is not added up."""

    last_commit: float | None = None
    """When a batch was committed last, in seconds since 1970."""
    store_failures: int = 0
    loop_lags: deque[float] = field(default_factory=lambda: deque(maxlen=_LAGS))
    """Seconds by which the event loop was late, each time that it was looked at lately."""


@dataclass(frozen=True)
class Metrics:
    """Since the start of the process."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """By route, method and status."""
    request_seconds: defaultdict[str, Histogram] = field(
        default_factory=lambda: defaultdict(lambda: Histogram(REQUEST_SECONDS))
    )
    """By route; not of streams, which last as long as somebody listens."""
    rejected: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Requests that were refused, by status and reason."""
    events: Counter[str] = field(default_factory=Counter)
    """Events that this process has settled, by outcome."""
    queue_wait_seconds: Histogram = field(default_factory=lambda: Histogram(WAIT_SECONDS))
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_SECONDS))
    batch_events: Histogram = field(default_factory=lambda: Histogram(BATCH_EVENTS))
    stage_seconds: defaultdict[str, Histogram] = field(
        default_factory=lambda: defaultdict(lambda: Histogram(STAGE_SECONDS))
    )
    """Of one call of a stage, by its name."""
    stage_failures: Counter[str] = field(default_factory=Counter)
    log_messages: Counter[str] = field(default_factory=Counter)
    """By level."""
    moments: Moments = field(default_factory=Moments)


@dataclass(frozen=True)
class Gauges:
    """How things are at the moment of a look."""

    is_ready: bool
    bounded: Mapping[str, tuple[int, int]]
    """How much is held now of what is bounded, and the most that may be, by name."""
    queue_oldest_seconds: float
    store: str
    """The scheme of the store's URL."""
    store_events: Mapping[str, int]
    """By outcome, as the store has counted them. None of these where this process only reads:
    it would have to ask the store for them."""
    topics: int | None
    quarantined: int | None
    last_seq: int | None
    store_bytes: Mapping[str, int]
    disk_free: int | None
