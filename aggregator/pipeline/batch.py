"""What shares a transaction: the submissions of a batch, and what came of it.

A batch holds lenient submissions, or exactly one strict one: were that one refused beside others,
its neighbours might be called duplicates of what is then not stored.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from aggregator.errors import AggregatorError, StoreError, StoreFault
from aggregator.event import Event, Pending, Submission
from aggregator.pipeline.comparer import Comparison
from aggregator.store import Counters
from aggregator.transaction import Effect, Postponed

FIRST_PAUSE = 0.1  # seconds between attempts at what the store failed over, doubled each time
LONGEST_PAUSE = 5.0
_NOTHING = Counters()
_MOST_LATE = 2  # how often what ran out of time is tried again
_MOST_FAULTS = 3  # of the store, at what was answered 202, before it goes into quarantine


@dataclass(eq=False)
class BatchItem:
    """A submission, those of its events that the intake left open, and what was tried in vain."""

    submission: Submission
    going: list[Event]
    late: int = 0
    """How often there was no time for it."""
    failures: int = 0
    """How often the store failed while it was settled."""
    faults: int = 0
    """How often the store raised what nobody foresaw then: this may be the cause."""
    due: float = 0.0
    """When to try again, by the clock of the event loop."""
    comparison: Comparison | None = None
    """What no batch had room to compare."""
    fault: AggregatorError | None = None
    """Why it cannot be settled, where that is known before it is tried."""

    @classmethod
    def of(cls, submission: Submission) -> "BatchItem":
        """The submission as it comes from the queue."""
        going = [event for event in submission.events if type(event.verdict) is Pending]
        return cls(submission, going)

    @property
    def is_alone(self) -> bool:
        """Whether it has a transaction of its own, so that the others are stored without it."""
        return self.submission.is_strict or self.faults > 0 or self.fault is not None

    @property
    def may_wait(self) -> bool:
        """Whether it may run out of time once more: who is slow for ever must not keep others."""
        return self.late < _MOST_LATE

    @property
    def goes_aside(self) -> bool:
        """Whether it goes into quarantine next; where that fails too, it is tried as before."""
        return self.faults >= _MOST_FAULTS and (self.faults - _MOST_FAULTS) % 2 == 0

    @property
    def final_fault(self) -> AggregatorError | None:
        """Why it is not tried, but told to have failed, or put into quarantine; None if it is."""
        if self.fault is None and self.goes_aside:
            return StoreFault(f"the store failed {_MOST_FAULTS} times over it; the log says more")
        return self.fault

    def has_failed(self, error: StoreError, is_its_own: bool = False) -> None:
        """Count a failure of the store, and say when to try again.

        It is the item's own where only what this one asks for could not be read.
        """
        # Counted also where going aside fails in whatever way: or it would do so for ever.
        self.faults += is_its_own or isinstance(error, StoreFault) or self.goes_aside
        self.failures += 1
        self.due = asyncio.get_running_loop().time() + self.pause

    @property
    def pause(self) -> float:
        """Seconds to wait before it is tried again.

        None after the first failure. Nor before it goes aside: else one that fails beside many, for
        want of the store, would be taken for the cause once the store is well again.
        """
        if self.failures < 2 or self.goes_aside:
            return 0.0
        return min(FIRST_PAUSE * (1 << min(self.failures, 10)), LONGEST_PAUSE)

    def postpone(self, postponed: Postponed) -> None:
        """Have compared what it is postponed for."""
        self.comparison = self.comparison or Comparison(self.submission)
        pairs = postponed.by_submission[self.submission.id]
        self.comparison.ask(pairs, postponed.uncommitted)
        self.reopen()

    def reopen(self) -> None:
        """Forget what became of its events, which was rolled back."""
        for event in self.going:
            event.reopen()


def batches(items: Sequence[BatchItem]) -> Iterator[list[BatchItem]]:
    """One batch of all lenient submissions, then one for each strict submission.

    In order of arrival a few strict ones would split the commit that the lenient ones share. What
    the store may never take is alone too, so that the others are stored without it, and before it.
    """
    if together := [item for item in items if not item.is_alone]:
        yield together
    alone = [item for item in items if item.is_alone]
    yield from ([item] for item in sorted(alone, key=attrgetter("failures")))


@dataclass(frozen=True)
class BatchResult:
    """The result of a committed batch: the submissions stored, and the counters after them.

    `effects` are to be run next. The submissions in `failed` left no event in the store; for those
    in `again` there was no time, and they are to be tried again. What is `postponed` is first to be
    compared. The counters are None where there was nothing to commit.
    """

    stored: list[Submission]
    counters: Counters | None
    effects: Sequence[Effect] = ()
    failed: list[tuple[Submission, AggregatorError]] = field(default_factory=list)
    again: list[BatchItem] = field(default_factory=list)
    postponed: list[BatchItem] = field(default_factory=list)
    counted: Counters = _NOTHING
    """How many events ended in which way."""
