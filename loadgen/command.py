"""The options of the command `loadgen`, and its exit status."""

import asyncio
import math
import sys
from typing import Any
from urllib.parse import urlsplit

import click
import stamina
from rich.console import Console

from loadgen.report import failure_as_json, print_page, progress_on, run_as_json
from loadgen.run import NeverReady, Options, Run, perform
from loadgen.workload import Plan, make_plan

MATCHES, FAILED, NEVER_READY, INTERRUPTED = 0, 1, 2, 130


class Number(click.FloatRange):
    """A range of finite numbers: click lets nan and inf pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, if it is one."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def check_url(_ctx: click.Context, _param: click.Parameter, url: str) -> str:
    """The URL without a slash at its end. Raises BadParameter if nothing can be published to it."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.query or parts.fragment:
        raise click.BadParameter(f"{url!r} cannot be published to: give http://HOST:PORT.")
    return url.rstrip("/")


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--url", default="http://127.0.0.1:8080", callback=check_url, help="The service.")
@click.option("--events", default=5000, type=click.IntRange(1), help="Sent in all.")
@click.option("--topics", default=3, type=click.IntRange(1), help="Over which they are spread.")
@click.option(
    "--duplicates",
    default=0.2,
    type=Number(0, 1, max_open=True),
    help="Part of the events that are resends of earlier ones.",
)
@click.option("--connections", default=8, type=click.IntRange(1), help="That publish at once.")
@click.option("--batch", default=100, type=click.IntRange(1), help="Events in one request.")
@click.option("--seed", default=1, help="The same seed sends the same events, byte for byte.")
@click.option("--wait", default=30.0, type=Number(0), help="Seconds for the service to be ready.")
@click.option(
    "--timeout", default=10.0, type=Number(0, min_open=True), help="Seconds for one request."
)
@click.option("--give-up", default=60.0, type=Number(0), help="Seconds of retries in vain.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(
    *,
    url: str,
    events: int,
    topics: int,
    duplicates: float,
    connections: int,
    batch: int,
    seed: int,
    wait: float,
    timeout: float,
    give_up: float,
    as_json: bool,
) -> None:
    """Publish seeded events, then check that exactly these are stored, each once.

    \b
    Example:
      loadgen --url http://127.0.0.1:8080 --events 20000 --duplicates 0.3

    \b
    Exit status:
      0    everything matches
      1    something does not
      2    the service was not ready in time
      130  it was interrupted
    """
    plan = make_plan(seed=seed, events=events, topics=topics, duplicates=duplicates, batch=batch)
    options = Options(url, connections, wait, timeout, give_up)
    console = Console(stderr=as_json, highlight=False)
    stamina.instrumentation.set_on_retry_hooks(())  # retries are counted, not logged
    try:
        run = run_on(console, plan, options)
    except NeverReady as error:
        click.echo(failure_as_json(error) if as_json else error, err=not as_json)
        sys.exit(NEVER_READY)
    except KeyboardInterrupt:
        click.echo("Interrupted: what was answered is stored; run it again for the rest.", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        click.echo(run_as_json(run))
    else:
        print_page(run, console)
    sys.exit(MATCHES if run.verdict.good else FAILED)


def run_on(console: Console, plan: Plan, options: Options) -> Run:
    """Perform the run, with its progress on the console."""
    console.print(
        f"{plan.events:,} events of {len(plan.topics)} topics, {plan.duplicates:,} of them "
        f"duplicates, seed {plan.seed}, to {options.url}",
        soft_wrap=True,
        markup=False,
    )
    with progress_on(console) as progress:
        return asyncio.run(perform(plan, options, progress))
