"""Where somebody else does better than this service, in words."""

from collections.abc import Callable, Iterator

from loadgen.bench.results import Contest, Results


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


def _by_growth(results: Results) -> Iterator[str]:
    growth = results.growth
    if growth and growth.share and growth.share < 1:
        yield (
            f"**With {growth.ours[-1].size:,} events stored** the service is at {growth.share:.2f} "
            f"of its rate at {growth.ours[0].size:,}."
        )


def _p99(contest: Contest) -> float:
    return contest.paced.latency["p99"] if contest.paced else 0.0


def _mebibytes(contest: Contest) -> float | None:
    return contest.memory / 2**20 if contest.memory else None


MEASURES: tuple[tuple[str, Callable[[Contest], float | None]], ...] = (
    ("µs of processor time an event", lambda contest: contest.processor),
    ("MiB of memory", _mebibytes),
)
