"""The arguments of the measurement, and its exit status."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from loadgen.bench.contestant import Contestant, Effort
from loadgen.bench.field import QUICK, chosen, everybody
from loadgen.bench.load import has_wrk
from loadgen.bench.machine import machine, versions
from loadgen.bench.results import Results, to_json
from loadgen.bench.table import table
from loadgen.bench.turns import compare, workplace

FULL_EFFORT = Effort(events=400_000, singles=60_000, seconds=15.0, rounds=3)
QUICK_EFFORT = Effort(events=150_000, singles=25_000, seconds=6.0, rounds=2)


@click.command("loadgen.bench")
@click.option("--only", metavar="NAMES", help="Who is measured, with commas: names or groups.")
@click.option("--quick", is_flag=True, help="The limits, this service and the naive design; less.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of everybody.")
@click.option("--events", type=click.IntRange(1000), help="Most events of a turn.")
@click.option("--singles", type=click.IntRange(100), help="Most where each is a request.")
@click.option("--seconds", type=click.FloatRange(0.5), help="Longest turn.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write the results here.")
@click.option(
    "--folder",
    default=Path("build/bench"),
    type=click.Path(path_type=Path),
    help="On the disk that is measured; what is installed stays in it.",
    show_default=True,
)
@click.option("--python", default=sys.executable, help="Whose `aggregator` is measured.")
def command(
    *,
    only: str | None,
    quick: bool,
    rounds: int | None,
    events: int | None,
    singles: int | None,
    seconds: float | None,
    as_json: Path | None,
    folder: Path,
    python: str,
) -> None:
    """Measure the service beside its limits and its peers."""
    least = QUICK_EFFORT if quick else FULL_EFFORT
    effort = Effort(
        events or least.events,
        singles or least.singles,
        seconds or least.seconds,
        rounds or least.rounds,
    )
    results = measure(choose(only, quick, python), effort, folder, python)
    for line in table(results):
        click.echo(line)
    if as_json:
        as_json.write_bytes(to_json(results))
    if not any(contest.good for contest in results.contests):
        sys.exit(1)


def choose(only: str | None, quick: bool, python: str) -> list[Contestant]:
    field = everybody(python)
    if not only and not quick:
        return field
    try:
        return chosen(field, only.split(",") if only else QUICK)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from error


def measure(contestants: list[Contestant], effort: Effort, folder: Path, python: str) -> Results:
    if not has_wrk():
        click.echo("wrk is not installed: a publisher of ours is used, which needs more of the CPU")
    with workplace(folder) as place:
        results = Results(
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", machine(folder), versions(python), {}
        )
        began = time.monotonic()
        results.contests = compare(contestants, place, effort, click.echo)
        results.took["contests"] = round(time.monotonic() - began, 1)
    return results
