"""Results as lines for a terminal."""

from collections.abc import Iterator

from loadgen.bench.contestant import GROUPS
from loadgen.bench.ours import BEFORE
from loadgen.bench.results import GROWTH_GOAL, Contest, Filled, Results, times

GOALS = (
    ("ours-100", "sqlite", 2.0),
    ("ours-1", "aiohttp", 0.85),
    ("ours-100", "naive", 250.0),
)
"""Whose rate is held against whose, and how often faster it should be."""


def table(results: Results) -> Iterator[str]:
    head = ("", "events/s", "from", "to", "µs of CPU", "MiB", "p50", "p99", "p99.9 ms")
    yield "{:<44}{:>10}{:>10}{:>10}{:>11}{:>7}{:>8}{:>8}{:>9}".format(*head)
    for group, name in GROUPS.items():
        found = [contest for contest in results.contests if contest.group == group]
        if found:
            yield name
        yield from map(_line, found)
    for contest in results.contests:
        ratio = results.ratio(contest.name, contest.name + BEFORE)
        if ratio is not None:
            yield f"{contest.name} / {contest.name}{BEFORE}: {ratio:,.2f}"
    best = results.best_peer
    goals = [*GOALS, ("ours-100", best.name, 3.0)] if best and best.name != "naive" else GOALS
    for one, other, goal in goals:
        ratio = results.ratio(one, other)
        if ratio is not None:
            yield f"{one} / {other}: {ratio:,.2f} (goal: {goal:g})"
    for kind, growth in (("growth", results.growth), ("CloudEvents' growth", results.cloudevents)):
        if growth and growth.share:
            yield f"last steps of {kind} / first: {growth.share:.2f} (goal: {GROWTH_GOAL})"
    if results.filled:
        yield from filled(results.filled)


def filled(found: Filled) -> Iterator[str]:
    yield f"With {found.size:,} events stored {found.trouble}".rstrip()
    for mix in found.mixes:
        yield _line(mix)
    for mix in found.mixes[1:]:
        ratio = times(mix, found.mixes[0])
        if ratio is not None:
            yield f"  {mix.title} / bare SQLite with duplicates: {ratio:.2f}"
    for read in found.reads:
        said = read.trouble or f"{read.ms or 0:,.1f} ms"
        yield f"  {read.title}, {read.form}: {said}"
    for disk in found.disks:
        sent, stored = disk.sent / disk.events, disk.stored / disk.events
        yield f"  {disk.title}: {stored:.0f} bytes on disk an event, {sent:.0f} in requests"


def _line(contest: Contest) -> str:
    title = f"  {contest.title[:41]:<42}"
    if contest.rate is None or contest.spread is None:
        return f"{title}{contest.trouble}"
    low, high = contest.spread
    latency = contest.paced.latency if contest.paced else {}
    times = [f"{latency[name]:.1f}" if latency else "" for name in ("p50", "p99", "p99.9")]
    memory = f"{contest.memory / 2**20:.0f}" if contest.memory else ""
    processor = f"{contest.processor:.1f}" if contest.processor else ""
    return (
        f"{title}{contest.rate:>10,.0f}{low:>10,.0f}{high:>10,.0f}{processor:>11}{memory:>7}"
        f"{times[0]:>8}{times[1]:>8}{times[2]:>9}"
        f"{'  ' + contest.trouble if contest.trouble else ''}"
    )
