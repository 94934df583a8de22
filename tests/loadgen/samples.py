"""Results as a run would have found them."""

from loadgen.bench.results import (
    Contest,
    Disk,
    Effort,
    Filled,
    Growth,
    Paced,
    Read,
    Results,
    Round,
    Step,
)


def contest(
    name: str,
    group: str,
    *rates: float | None,
    size: int = 100,
    p99: float | None = None,
    memory: int = 50,
) -> Contest:
    """Each round took a second; None is one that failed."""
    found = Contest(name, group, f"the {name}", size, 16, f"{name} promises", "as it comes")
    found.rounds = [rate and Round(int(rate), 1.0, 1, 0.5, memory * 2**20, 0.1) for rate in rates]
    if p99 is not None:
        latency = {"p50": p99 / 4, "p90": p99 / 2, "p99": p99, "p99.9": p99 * 2, "max": p99 * 3}
        found.paced = Paced(10.0, 100, latency, dict.fromkeys(latency, 0.1))
    return found


def results(*contests: Contest) -> Results:
    effort = Effort(1000, 100, 2.5, 3)
    return Results(
        "2026-01-31 12:00 UTC", {"disk": "a disk"}, {"Python": "3.11"}, effort, list(contests)
    )


def growth() -> Growth:
    paced = contest("", "ours", 1, p99=4.0).paced
    ours = [Step(size, 1000, 0.1 * size, 50 * 2**20, paced) for size in (1000, 2000, 4000)]
    return Growth(ours, [Step(size, 1000, 0.2 * size) for size in (1000, 2000, 4000)])


def filled() -> Filled:
    """What went wrong is in it too."""
    failed = contest("failed", "ours", None)
    failed.trouble = "a round failed: 3 are missing"
    mixes = [contest("sqlite", "limits", 100, 200), contest("new", "ours", 150, 300), failed]
    reads = [Read("a topic", "one page", 100, 1, [0.003, 0.001, 0.002])]
    reads.append(Read("all", "one answer in NDJSON", trouble="it failed: 503"))
    return Filled(1000, [Disk("events", 1000, 220_000, 300_000)], mixes, reads)
