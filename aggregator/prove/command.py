"""The command `aggregator prove`."""

import asyncio
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

import click

from aggregator.errors import AggregatorError
from aggregator.prove import report
from aggregator.prove.prover import prove
from aggregator.prove.report import OVER, Options, Proof

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BROKEN, _UNUSABLE, _INTERRUPTED = 1, 2, 130
_SEEDS = 1_000_000_000
_CLEAR = "\r\x1b[K"


def _number(_: click.Context, __: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("nan is no number of seconds.")
    return value


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
    callback=_number,
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
    """Kill a service of its own and check its word.

    Publishers send events to it meanwhile, old ones among them. It is killed with -9 again and
    again: at random moments, while it starts, while it stops, and at each point of an event's way.
    Then all that was answered is held against what is stored and counted. Settings that are no
    options here are the defaults.

    \b
    Example:
      aggregator prove --folder . --kills 200

    \b
    Exit status:
      0    nothing was lost, nothing doubled, and every number adds up
      1    something was; the store is kept
      2    it could not be proved; why is said
      130  it was interrupted
    """
    seed = SystemRandom().randrange(_SEEDS) if seed is None else seed
    own = _new_folder_in(folder)
    is_needed = True  # also if an error comes that nobody has thought of
    try:
        _tell(f"seed {seed}, in {own}")
        options = Options(own, store, queue, kills, seconds, seed, connections)
        work = prove(options, _live if sys.stderr.isatty() else _silent)
        proof = asyncio.run(_interruptible(work))
        is_needed = not proof.is_kept
    except AggregatorError as error:
        is_needed = False
        _tell(f"aggregator: {error}")
        sys.exit(_UNUSABLE)
    except KeyboardInterrupt:
        is_needed = False
        _tell("Interrupted: nothing is proved.")
        sys.exit(_INTERRUPTED)
    finally:
        if is_needed:
            _tell(f"The store and what the service said are kept in {own}")
        else:
            shutil.rmtree(own)
    is_told = _print(report.as_json(proof) if is_json else "\n".join(report.page(proof)))
    if not proof.is_kept:
        sys.exit(_BROKEN)
    sys.exit(0 if is_told else _UNUSABLE)


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Do the work. Raises KeyboardInterrupt after a signal, once the work has tidied up.

    Further signals are ignored meanwhile.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def interrupt() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _new_folder_in(folder: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="prove-", dir=folder)).resolve()
    except OSError as error:
        _tell(f"aggregator: cannot make a folder in {folder}: {error.strerror}")
        sys.exit(_UNUSABLE)


def _tell(text: str, *, has_end: bool = True) -> None:
    """Write to standard error, which may be closed or full."""
    with suppress(OSError):
        click.echo(text, nl=has_end, err=True)


def _print(text: str) -> bool:
    """Write to standard output; whether that was possible."""
    try:
        click.echo(text)
    except OSError as error:
        # What is still in the buffer would fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _tell(f"aggregator: cannot write what was found: {error.strerror}")
        return False
    return True


def _live(proof: Proof) -> None:
    """Overwrite the line of progress on a terminal."""
    _tell(_CLEAR + report.line(proof), has_end=proof.phase == OVER)


def _silent(_: Proof) -> None:
    """No progress, where standard error is no terminal."""
