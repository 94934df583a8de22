"""docs/benchmarks.md and what it shows, made of results and nothing else."""

from collections.abc import Iterator
from pathlib import Path

from loadgen.bench.bars import bars
from loadgen.bench.contestant import GROUPS
from loadgen.bench.curves import curves
from loadgen.bench.losing import beside, losses
from loadgen.bench.results import Contest, Growth, Results, to_json
from loadgen.bench.words import AGAIN, BEGINNING, LATENCY, METHOD

IN_SHORT = (
    ("100 events a request, against bare SQLite in a loop", "ours-100", "sqlite"),
    ("one event a request, against bare aiohttp, which stores nothing", "ours-1", "aiohttp"),
    ("100 events a request, against the naive design", "ours-100", "naive"),
    ("one event a request, against the naive design", "ours-1", "naive"),
)


def write_page(path: Path, results: Results) -> None:
    """The page, and beside it the pictures and the results that all is made of."""
    path.write_text(page(path.stem, results))
    path.with_suffix(".json").write_bytes(to_json(results))
    path.with_suffix(".svg").write_text(bars(results))
    if results.growth and results.growth.ours:
        path.with_name(f"{path.stem}-growth.svg").write_text(curves(results.growth))


def page(stem: str, results: Results) -> str:
    sections = [
        BEGINNING.format(date=results.date, json=f"{stem}.json"),
        "\n".join(_in_short(results)),
        f"![Rates of all]({stem}.svg)",
        "\n".join(_rates(results)),
        "\n".join(_latencies(results)),
        "\n".join(_promises(results)),
        "\n".join(_growth(stem, results.growth)) if results.growth else "",
        "\n".join(_losses(results)),
        "\n".join(_circumstances(results)),
        METHOD.format(effort=results.effort, publisher=_publisher(results)),
        AGAIN.format(minutes=max(1, round(sum(results.took.values()) / 60))),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _in_short(results: Results) -> Iterator[str]:
    ratios = [(words, results.ratio(one, other)) for words, one, other in IN_SHORT]
    known = [(words, ratio) for words, ratio in ratios if ratio is not None]
    if known:
        yield "| events durably stored a second by this service | times as many |"
        yield "|---|---|"
    for words, ratio in known:
        yield f"| {words} | {ratio:,.2f} |"


def _rates(results: Results) -> Iterator[str]:
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


def _latencies(results: Results) -> Iterator[str]:
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


def _promises(results: Results) -> Iterator[str]:
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


def _growth(stem: str, growth: Growth) -> Iterator[str]:
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
    if growth.trouble:
        yield ""
        yield f"It ended early: {growth.trouble}."


def _losses(results: Results) -> Iterator[str]:
    if not any(contest.group == "ours" and contest.good for contest in results.contests):
        return
    yield "## Where this service loses"
    yield ""
    found = list(losses(results))
    yield from (f"- {line}" for line in found)
    if not found:
        yield "Nowhere in this run."


def _circumstances(results: Results) -> Iterator[str]:
    yield "## Machine and versions"
    yield ""
    for name, words in (*results.machine.items(), *results.versions.items()):
        yield f"- {name}: {words}"
    took = ", ".join(f"{part} {seconds / 60:.1f}" for part, seconds in results.took.items())
    yield f"- minutes that each part took: {took}"


def _publisher(results: Results) -> str:
    """How near the publisher came to what one core can do."""
    shares = [
        found.publisher / found.seconds
        for contest in results.contests
        for found in contest.good
        if found.publisher is not None
    ]
    if not shares:
        return ""
    return f" It used at most {max(shares):.0%} of one core in any round."
