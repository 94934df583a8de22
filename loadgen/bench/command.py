"""The arguments of the measurement, who takes part, and its exit status."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from loadgen.bench.contestant import Contestant
from loadgen.bench.limits import BareAiohttp, BareSqlite, BareSqliteOrdered
from loadgen.bench.load import has_wrk
from loadgen.bench.measurement import Order, measure
from loadgen.bench.ours import BEFORE, ours
from loadgen.bench.page import write_page
from loadgen.bench.peers.absent import Rqlite
from loadgen.bench.peers.benthos import Benthos
from loadgen.bench.peers.datasette import Datasette
from loadgen.bench.peers.naive import Naive
from loadgen.bench.peers.nats import Nats
from loadgen.bench.peers.postgresql import Postgresql, PostgresqlOne
from loadgen.bench.results import Effort, from_json, to_json
from loadgen.bench.terminal import table

QUICK = ("sqlite", "aiohttp", "ours-1", "ours-100", "ours-1000", "naive")
FULL = Effort(events=400_000, singles=60_000, seconds=12.0, rounds=3)
LESS = Effort(events=150_000, singles=25_000, seconds=5.0, rounds=2)
FILLED, FILLED_LESS = 1_000_000, 100_000
GROWTH = 10_000_000


@click.command("loadgen.bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", metavar="NAMES", help="Who is measured, with commas: names or groups.")
@click.option("--quick", is_flag=True, help="Limits, this service and the naive design; less.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of everybody.")
@click.option("--events", type=click.IntRange(1000), help="Most events of a turn.")
@click.option("--singles", type=click.IntRange(100), help="Most where each is a request.")
@click.option("--seconds", type=click.FloatRange(0.5), help="Longest turn.")
@click.option("--filled", type=click.IntRange(0), help="Events before mixes, reads; 0: neither.")
@click.option(
    "--growth",
    type=click.IntRange(0),
    help="Random keys to grow to, a fifth of CloudEvents; 0: neither.",
)
@click.option("--fill-memory", is_flag=True, help="Before growth, as if this ran for days. Linux.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write results there.")
@click.option("--output", type=click.Path(path_type=Path), help="Write a page there, and its SVGs.")
@click.option("--results", type=click.Path(path_type=Path), help="Do not measure; read these.")
@click.option(
    "--folder",
    default=Path("build/bench"),
    type=click.Path(path_type=Path),
    help="On the disk that is measured; what is installed stays in it.",
    show_default=True,
)
@click.option("--python", default=sys.executable, help="Whose `aggregator` is measured.")
@click.option("--before", help="Whose is measured beside it, as ours-100-before and so on.")
def command(
    *,
    only: str | None,
    quick: bool,
    rounds: int | None,
    events: int | None,
    singles: int | None,
    seconds: float | None,
    filled: int | None,
    growth: int | None,
    fill_memory: bool,
    as_json: Path | None,
    output: Path | None,
    results: Path | None,
    folder: Path,
    python: str,
    before: str | None,
) -> None:
    """Measure the service beside its limits and its peers.

    Without arguments all of it, for half an hour; --quick takes 3 minutes.

    \b
    Example:
      python -m loadgen.bench --only sqlite,ours-100 --rounds 5

    \b
    Exit status:
      0  it is measured
      1  no turn gave what it should
      2  the arguments cannot be used
    """
    least = LESS if quick else FULL
    effort = Effort(
        events or least.events,
        singles or least.singles,
        seconds or least.seconds,
        rounds or least.rounds,
    )
    if growth is None:
        growth = 0 if only or quick else GROWTH
    if filled is None:
        filled = 0 if only else FILLED_LESS if quick else FILLED
    if results:
        found = from_json(results.read_bytes())
    else:
        if not has_wrk():
            click.echo("wrk is not installed: a publisher of ours is used, which is slower")
        found = measure(
            Order(
                choose(only, everybody(python, before), quick=quick),
                effort,
                filled,
                growth,
                folder,
                python,
                fill_memory,
            ),
            click.echo,
        )
    if as_json:
        as_json.write_bytes(to_json(found))
    if output:
        write_page(output, found)
    for line in table(found):
        click.echo(line)
    if not any(contest.good for contest in found.contests):
        sys.exit(1)


def choose(only: str | None, field: list[Contestant], *, quick: bool) -> list[Contestant]:
    if not only and not quick:
        return field
    try:
        return chosen(field, only.split(",") if only else QUICK)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from error


def everybody(python: str, before: str | None = None) -> list[Contestant]:
    limits = [BareSqlite(), BareSqliteOrdered(), BareAiohttp()]
    peers = [Naive(), Datasette(), Nats(), Postgresql(), PostgresqlOne(), Benthos(), Rqlite()]
    return [*limits, *ours(python, before), *peers]


def chosen(field: Sequence[Contestant], names: Sequence[str]) -> list[Contestant]:
    """Those named; a group's name stands for all of it."""
    known = [one for one in field if any(is_meant(one, name) for name in names)]
    missing = [name for name in names if not any(is_meant(one, name) for one in field)]
    if missing:
        has = ", ".join(one.name for one in field)
        raise ValueError(f"nobody is called {', '.join(missing)}; there are {has}")
    return known


def is_meant(one: Contestant, name: str) -> bool:
    return name in (one.name, one.name.removesuffix(BEFORE), one.group)
