"""The tables of the page in Markdown, and where others are ahead."""

from collections.abc import Callable, Iterator

from loadgen.bench.contestant import GROUPS
from loadgen.bench.results import Contest, Filled, Growth, Results, times
from loadgen.bench.words import CLOUDEVENTS, FILLED, GROWTH, LATENCY, MEMORY_FILLED


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


def filled(found: Filled) -> Iterator[str]:
    yield f"## With {found.size:,} events stored"
    yield ""
    yield FILLED
    if found.mixes:
        bare = found.mixes[0]
        yield ""
        yield "| what is sent | events a request | connections | µs of processor time an event | events/s | from, to | times bare SQLite |"  # noqa: E501
        yield "|---|---|---|---|---|---|---|"
        for mix in found.mixes:
            yield _mix(mix, times(mix, bare))
    if found.reads:
        yield ""
        yield "| what is read | as | events | requests | ms | from, to |"
        yield "|---|---|---|---|---|---|"
    for read in found.reads:
        asked = f"| {read.title} | {read.form} |"
        if read.ms is None or read.trouble:
            yield f"{asked} {read.trouble} | | | |"
        else:
            low, high = (1000 * one(read.seconds) for one in (min, max))
            counts = f"{read.events:,} | {read.requests:,}"
            yield f"{asked} {counts} | {read.ms:,.1f} | {low:,.1f}, {high:,.1f} |"
    if found.disks:
        yield ""
        yield "| what is stored | events | bytes of request an event | bytes on disk an event |"
        yield "|---|---|---|---|"
    for disk in found.disks:
        sent, stored = disk.sent / disk.events, disk.stored / disk.events
        yield f"| {disk.title} | {disk.events:,} | {sent:.0f} | {stored:.0f} |"
    if found.trouble:
        yield ""
        yield f"{found.trouble[:1].upper()}{found.trouble[1:]}."


def _mix(mix: Contest, ratio: float | None) -> str:
    shape = f"| {mix.title} | {mix.size:,} | {mix.connections or '–'} |"
    if mix.rate is None or mix.spread is None:
        return f"{shape} {mix.trouble} | | | |"
    low, high = mix.spread
    processor = f"{mix.processor:.1f}" if mix.processor else "–"
    share = f"{ratio:.2f}" if ratio else "–"
    trouble = f" ({mix.trouble})" if mix.trouble else ""
    return f"{shape} {processor} | {mix.rate:,.0f}{trouble} | {low:,.0f}, {high:,.0f} | {share} |"


def growth(stem: str, growth: Growth) -> Iterator[str]:
    yield "## While the store grows"
    yield ""
    if growth.ours:
        yield f"![Rate, latency and memory while the store grows]({stem}-growth.svg)"
        yield ""
    yield from _steps(growth)
    yield ""
    yield GROWTH
    if growth.is_memory_filled:
        yield MEMORY_FILLED


def growth_of_cloudevents(growth: Growth) -> Iterator[str]:
    yield "## While a store of CloudEvents grows"
    yield ""
    yield CLOUDEVENTS
    yield ""
    yield from _steps(growth)


def _steps(growth: Growth) -> Iterator[str]:
    """Columns of bare SQLite only where it grew beside."""
    head = "| events stored | events/s | of the first | bytes written an event | p99 | memory |"
    yield f"{head} bare SQLite, events/s | of its first |" if growth.bare else head
    yield "|---|---|---|---|---|---|" + "---|---|" * bool(growth.bare)
    began = 0
    for number, step in enumerate(growth.ours):
        p99 = f"{step.paced.latency['p99']:.1f} ms" if step.paced else "–"
        memory = f"{step.memory / 2**20:.0f} MiB" if step.memory else "–"
        written = f"{step.written / (step.size - began):,.0f}" if step.written else "–"
        share = step.rate / growth.ours[0].rate
        row = f"| {step.size:,} | {step.rate:,.0f} | {share:.2f} | {written} | {p99} | {memory} |"
        if number < len(growth.bare):
            other = growth.bare[number].rate
            row += f" {other:,.0f} | {other / growth.bare[0].rate:.2f} |"
        elif growth.bare:
            row += " – | – |"
        yield row
        began = step.size
    if growth.trouble:
        yield ""
        yield f"It ended early: {growth.trouble}."


# Where somebody else does better than this service, in words.


def beside(contest: Contest) -> str:
    """Our way to publish that is most like another's."""
    mine = "ours-1" if contest.size == 1 else "ours-100"
    return f"{mine}-ordered" if contest.name.endswith("-ordered") else mine


def losses(results: Results) -> Iterator[str]:
    """A line for each contestant and each thing in which it is ahead."""
    for contest in results.contests:
        mine = results.contest(beside(contest))
        if contest.group == "ours" or mine is None or contest.rate is None or mine.rate is None:
            continue
        found = list(_ahead(contest, mine, results))
        if found:
            yield f"**{contest.title}**: {'; '.join(found)}."
    if results.filled:
        yield from _by_filling(results.filled)
    yield from _by_growth(results)


def _ahead(contest: Contest, mine: Contest, results: Results) -> Iterator[str]:
    ratio = results.ratio(contest.name, mine.name)
    if ratio and ratio > 1:
        yield f"{ratio:.2f} times as many events a second ({mine.title})"
    if contest.group == "limits":
        return
    if contest.paced and mine.paced and _p99(contest) < _p99(mine):
        yield f"p99 {_p99(contest):.1f} ms at half its highest rate, ours {_p99(mine):.1f} ms"
    for words, of in MEASURES:
        theirs, our = of(contest), of(mine)
        if theirs and our and theirs < our:
            yield f"{theirs:,.0f} {words}, ours {our:,.0f}"


def _by_filling(filled: Filled) -> Iterator[str]:
    for mix in filled.mixes[1:]:
        ratio = times(mix, filled.mixes[0])
        if ratio and ratio < 1:
            yield (
                f"**{mix.title}, with {filled.size:,} stored**: {ratio:.2f} of the rate of "
                f"{filled.mixes[0].title}."
            )


def _by_growth(results: Results) -> Iterator[str]:
    for kind, growth in (("events", results.growth), ("CloudEvents", results.cloudevents)):
        if growth and growth.share and growth.share < 1:
            yield (
                f"**With {growth.ours[-1].size:,} {kind} stored** the service is at "
                f"{growth.share:.2f} of its rate at {growth.ours[0].size:,}."
            )


def _p99(contest: Contest) -> float:
    return contest.paced.latency["p99"] if contest.paced else 0.0


def _mebibytes(contest: Contest) -> float | None:
    return contest.memory / 2**20 if contest.memory else None


MEASURES: tuple[tuple[str, Callable[[Contest], float | None]], ...] = (
    ("µs of processor time an event", lambda contest: contest.processor),
    ("MiB of memory", _mebibytes),
)
