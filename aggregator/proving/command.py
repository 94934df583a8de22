"""The command `aggregator prove`."""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

import click

from aggregator.errors import AggregatorError
from aggregator.proving import report
from aggregator.proving.proof import OVER, Options, Proof
from aggregator.proving.prover import prove

_BROKEN, _UNUSABLE, _INTERRUPTED = 1, 2, 130
_SEEDS = 1_000_000_000
_CLEAR = "\r\x1b[K"


@click.command(name="prove")
@click.option(
    "--folder",
    default=".",
    show_default="this one",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="On the disk that is meant. The proof makes a folder of its own in it.",
)
@click.option(
    "--store",
    default="sqlite:///aggregator.db",
    show_default=True,
    help="URL of a new store; a relative path is in the proof's own folder.",
)
@click.option("--queue", default="memory:", show_default=True, help="URL of the queue.")
@click.option("--kills", default=50, show_default=True, type=click.IntRange(1), help="How many.")
@click.option(
    "--seconds",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Kill for no longer than this.",
)
@click.option("--connections", default=8, show_default=True, type=click.IntRange(1, 1000))
@click.option("--seed", type=int, help="That of an earlier run, to repeat it.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object, for programs.")
def command(
    *,
    folder: Path,
    store: str,
    queue: str,
    kills: int,
    seconds: float,
    connections: int,
    seed: int | None,
    is_json: bool,
) -> None:
    """Kill a service of its own again and again, and check every word that it gave.

    Publishers send events to it meanwhile, old ones among them. It is killed with -9 at random
    moments, while it starts, and at each point of an event's way. Then all that was answered is
    held against what is stored and counted. Settings that are no options here are the defaults.

    Ends with 0 if nothing was lost, nothing doubled, and every number adds up; with 1 if not.
    """
    seed = SystemRandom().randrange(_SEEDS) if seed is None else seed
    own = Path(tempfile.mkdtemp(prefix="prove-", dir=folder)).resolve()
    options = Options(own, store, queue, kills, seconds, seed, connections)
    click.echo(f"seed {seed}, in {own}", err=True)
    is_broken = False
    try:
        proof = asyncio.run(prove(options, _live if sys.stderr.isatty() else _silent))
        is_broken = not proof.is_kept
    except AggregatorError as error:
        click.echo(f"aggregator: {error}", err=True)
        sys.exit(_UNUSABLE)
    except KeyboardInterrupt:
        click.echo("Interrupted: nothing is proved.", err=True)
        sys.exit(_INTERRUPTED)
    finally:
        if not is_broken:
            shutil.rmtree(own)
    if is_broken:
        click.echo(f"The store and what the service said are kept in {own}", err=True)
    click.echo(report.as_json(proof) if is_json else "\n".join(report.page(proof)))
    sys.exit(_BROKEN if is_broken else 0)


def _live(proof: Proof) -> None:
    """Write how far it is over what was written there before."""
    click.echo(_CLEAR + report.line(proof), nl=proof.phase == OVER, err=True)


def _silent(_: Proof) -> None:
    """Nobody watches."""
