"""docs/benchmarks.md and what it shows, made of results and nothing else."""

from collections.abc import Iterator
from pathlib import Path

from loadgen.bench import tables
from loadgen.bench.drawing import bars, curves
from loadgen.bench.results import GROWTH_GOAL, NOISE, Results, to_json
from loadgen.bench.words import AGAIN, BEGINNING, METHOD

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
        "\n".join(_banner(results)),
        "\n".join(_in_short(results)),
        f"![Rates of all]({stem}.svg)",
        "\n".join(tables.rates(results)),
        "\n".join(tables.latencies(results)),
        "\n".join(tables.filled(results.filled)) if results.filled else "",
        "\n".join(tables.growth(stem, results.growth)) if results.growth else "",
        "\n".join(tables.growth_of_cloudevents(results.cloudevents)) if results.cloudevents else "",
        "\n".join(tables.promises(results)),
        "\n".join(_losses(results)),
        "\n".join(_circumstances(results)),
        METHOD.format(effort=results.effort, publisher=_publisher(results)),
        AGAIN.format(minutes=max(1, round(sum(results.took.values()) / 60))),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _banner(results: Results) -> Iterator[str]:
    """A noisy machine is said before anything that was measured on it."""
    if not results.noisy:
        return
    yield "> **The machine was not quiet.** Bare programs, which do the same in every round, varied"
    yield f"> by more than {NOISE - 1:.0%}. Believe the ratios sooner than the rates."
    yield ""
    yield "| bare program | slowest round | fastest round | times as fast |"
    yield "|---|---|---|---|"
    for one in results.noisy:
        low, high = one.spread or (0, 0)
        yield f"| {one.title} | {low:,.0f} | {high:,.0f} | {high / low:.2f} |"


def _in_short(results: Results) -> Iterator[str]:
    ratios = [(words, results.ratio(one, other)) for words, one, other in IN_SHORT]
    best = results.best_peer
    if best:
        words = f"100 events a request, against the fastest that promises the same: {best.title}"
        ratios.append((words, results.ratio("ours-100", best.name)))
    grown = (("random keys", results.growth), ("CloudEvents", results.cloudevents))
    for kind, growth in grown:
        if growth and growth.ours:
            first, last = growth.ours[0], growth.ours[-1]
            words = f"with {last.size:,} {kind} stored, against {first.size:,}"
            words += f" (median of the last five steps; goal: at least {GROWTH_GOAL})"
            ratios.append((words, growth.share))
    known = [(words, ratio) for words, ratio in ratios if ratio is not None]
    if known:
        yield "| events durably stored a second by this service | times as many |"
        yield "|---|---|"
    for words, ratio in known:
        yield f"| {words} | {ratio:,.2f} |"


def _losses(results: Results) -> Iterator[str]:
    if not any(contest.group == "ours" and contest.good for contest in results.contests):
        return
    yield "## Where this service loses"
    yield ""
    found = list(tables.losses(results))
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
