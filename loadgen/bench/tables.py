"""The tables of the page, in Markdown."""

from collections.abc import Iterator

from loadgen.bench.contestant import GROUPS
from loadgen.bench.losing import beside
from loadgen.bench.results import Contest, Growth, Results
from loadgen.bench.words import FILLED, GROWTH, LATENCY


def rates(results: Results) -> Iterator[str]:
    yield "## Rates"
    yield ""
    yield "| who | events a request | connections | events/s | from, to | this service is | µs of processor time an event | memory |"  # noqa: E501 a row is a line
    yield "|---|---|---|---|---|---|---|---|"
    for group, name in GROUPS.items():
        members = [contest for contest in results.contests if contest.group == group]
        if members:
            yield f"| **{name}** | | | | | | | |"
        for contest in members:
            yield _rate(contest, results)


def _rate(contest: Contest, results: Results) -> str:
    shape = f"| {contest.title} | {contest.size:,} | {contest.connections or '–'} |"
    if contest.rate is None or contest.spread is None:
        return f"{shape} {contest.trouble} | | | | |"
    low, high = contest.spread
    ratio = None if contest.group == "ours" else results.ratio(beside(contest), contest.name)
    times = f"{ratio:,.2f} times as fast" if ratio else ""
    processor = f"{contest.processor:.1f}" if contest.processor else "–"
    memory = f"{contest.memory / 2**20:.0f} MiB" if contest.memory else "–"
    return (
        f"{shape} {contest.rate:,.0f}{' (' + contest.trouble + ')' if contest.trouble else ''} | "
        f"{low:,.0f}, {high:,.0f} | {times} | {processor} | {memory} |"
    )


def latencies(results: Results) -> Iterator[str]:
    measured = [contest for contest in results.contests if contest.paced]
    if not measured:
        return
    yield "## Latency at half the highest rate"
    yield ""
    yield LATENCY
    yield ""
    yield "| who | requests/s | p50 | p99 | p99.9 | longest | publisher late by (p99) |"
    yield "|---|---|---|---|---|---|---|"
    for contest in measured:
        assert contest.paced
        ms = contest.paced.latency
        times = " | ".join(f"{ms[name]:.1f} ms" for name in ("p50", "p99", "p99.9", "max"))
        late = contest.paced.late["p99"]
        yield f"| {contest.title} | {contest.paced.rate:,.0f} | {times} | {late:.2f} ms |"


def promises(results: Results) -> Iterator[str]:
    yield "## What an answer promises"
    yield ""
    yield "| who | once it has answered | how it was set up |"
    yield "|---|---|---|"
    ours = next((contest for contest in results.contests if contest.group == "ours"), None)
    if ours:
        yield f"| this service | {ours.promise} | as installed, default settings |"
    for contest in results.contests:
        if contest.group != "ours":
            yield f"| {contest.title} | {contest.promise} | {contest.note} |"


def growth(stem: str, growth: Growth) -> Iterator[str]:
    yield "## While the store grows"
    yield ""
    if growth.ours:
        yield f"![Rate, latency and memory while the store grows]({stem}-growth.svg)"
        yield ""
    yield "| events stored | events/s | of the first | p99 | memory | bare SQLite, events/s | of its first |"  # noqa: E501
    yield "|---|---|---|---|---|---|---|"
    for number, step in enumerate(growth.ours):
        p99 = f"{step.paced.latency['p99']:.1f} ms" if step.paced else "–"
        memory = f"{step.memory / 2**20:.0f} MiB" if step.memory else "–"
        bare = "– | –"
        if number < len(growth.bare):
            other = growth.bare[number].rate
            bare = f"{other:,.0f} | {other / growth.bare[0].rate:.2f}"
        share = step.rate / growth.ours[0].rate
        yield f"| {step.size:,} | {step.rate:,.0f} | {share:.2f} | {p99} | {memory} | {bare} |"
    yield ""
    yield GROWTH
    if growth.is_memory_filled:
        yield FILLED
    if growth.trouble:
        yield ""
        yield f"It ended early: {growth.trouble}."
