"""The state of a run, and its report: a line of progress, a page for people, JSON for programs."""

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aggregator.prove.failpoints import Point
from aggregator.prove.faults import Trouble
from aggregator.prove.journal import Journal, Promise

OVER = "over"


@dataclass(frozen=True)
class Options:
    """What is proved, where, and for how long; nothing is killed after so many `seconds`."""

    folder: Path
    store: str
    queue: str
    kills: int
    seconds: float
    seed: int
    connections: int


@dataclass
class Proof:
    """What is known so far; filled while the run goes on."""

    options: Options
    journal: Journal = field(default_factory=Journal)
    kills: Counter[Point] = field(default_factory=Counter)
    troubles: Counter[Trouble] = field(default_factory=Counter)
    """What failed on purpose in the lives that were ended so."""
    quiet_moments: int = 0
    """How often nobody published, and everything had to be back."""
    released: int = 0
    """Events that were received anew from quarantine."""
    followed: int = 0
    """Events that the reader of the stream has got."""
    exports: int = 0
    starts: list[float] = field(default_factory=list)
    """Seconds from each start until the service was ready."""
    lost: int | None = None
    doubled: int | None = None
    """Both are known at the end, if the service could still be asked."""
    seconds: float = 0.0
    phase: str = "starting"

    @property
    def is_kept(self) -> bool:
        """Whether no promise was broken."""
        return not self.journal.breaches

    @property
    def median_start(self) -> float:
        """Seconds from a start until the service was ready."""
        return statistics.median(self.starts) if self.starts else 0.0


def line(proof: Proof) -> str:
    """How far it is, in one line."""
    return (
        f"{proof.seconds:6.1f} s  {proof.kills.total():,} of {proof.options.kills:,} kills, "
        f"{len(proof.journal.seqs):,} events acknowledged, {proof.phase}"
    )


def verdict(proof: Proof) -> str:
    """The last line of the report: a summary of everything."""
    told = (
        f"{_kills(proof)}, {len(proof.journal.seqs):,} events acknowledged, "
        f"{_number(proof.lost)} lost, {_number(proof.doubled)} doubled, {_counters(proof)}, "
        f"ready again in {proof.median_start:.2f} s (median) and "
        f"{max(proof.starts, default=0):.2f} s (worst), seed {proof.options.seed}"
    )
    return f"{'OK' if proof.is_kept else 'FAILED'}: {told}"


def page(proof: Proof) -> Iterator[str]:
    """The report for people, line by line, the verdict last."""
    journal = proof.journal
    yield ""
    for point in Point:
        yield f"killed {point.value:<26}{proof.kills[point]:>12,}"
    yield ""
    for trouble in Trouble:
        yield f"lived {trouble.value:<27}{proof.troubles[trouble]:>12,}"
    yield f"moments in which all had to be back{proof.quiet_moments:>10,}"
    yield ""
    yield f"requests answered                {journal.requests:>12,}"
    for status, times in sorted(journal.counts.answered.items()):
        yield f"events answered {status:<17}{times:>12,}"
    yield f"events answered 202              {journal.accepted.total:>12,}"
    yield f"events sent without answer       {journal.counts.uncertain.total():>12,}"
    yield f"events acknowledged              {len(journal.seqs):>12,}"
    yield f"events released from quarantine  {proof.released:>12,}"
    yield f"events read from the stream      {proof.followed:>12,}"
    yield f"exports read meanwhile           {proof.exports:>12,}"
    yield ""
    yield from map(str, journal.breaches)
    yield verdict(proof)


def as_json(proof: Proof) -> str:
    """The report for programs, as one JSON object."""
    told: dict[str, Any] = {
        "ok": proof.is_kept,
        "verdict": verdict(proof),
        "broken": [
            {"promise": one.promise.value, "how": one.how, "times": one.times, "such": one.example}
            for one in proof.journal.breaches
        ],
        "seed": proof.options.seed,
        "store": proof.options.store,
        "queue": proof.options.queue,
        "seconds": round(proof.seconds, 1),
        "kills": {point.value: proof.kills[point] for point in Point},
        "lives": {trouble.value: proof.troubles[trouble] for trouble in Trouble},
        "quiet_moments": proof.quiet_moments,
        "requests": proof.journal.requests,
        "answered": proof.journal.counts.answered,
        "unanswered": proof.journal.counts.uncertain.total(),
        "acknowledged": len(proof.journal.seqs),
        "accepted": proof.journal.accepted.total,
        "released": proof.released,
        "followed": proof.followed,
        "exports": proof.exports,
        "lost": proof.lost,
        "doubled": proof.doubled,
        "ready_seconds": {
            "median": round(proof.median_start, 3),
            "worst": round(max(proof.starts, default=0), 3),
        },
    }
    return msgspec.json.encode(told).decode()


def _kills(proof: Proof) -> str:
    many = proof.kills.total()
    return f"{many:,} kill{'s' * (many != 1)}"


def _number(known: int | None) -> str:
    return "an unknown number" if known is None else f"{known:,}"


def _counters(proof: Proof) -> str:
    is_wrong = any(breach.promise is Promise.COUNTED for breach in proof.journal.breaches)
    return "the counters do not add up" if is_wrong else "the counters add up"
