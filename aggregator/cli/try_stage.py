"""`aggregator try`: runs a stage from a file over a few events, and prints what becomes of each."""

import asyncio
import dataclasses
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from aggregator.authoring import report
from aggregator.authoring.blame import OwnFiles
from aggregator.authoring.report import Faults
from aggregator.authoring.stage_file import files_in, resolve
from aggregator.authoring.submissions import SAMPLE, Body, Source, bodies
from aggregator.authoring.trial import Trial, Tried, running
from aggregator.cli.options import fail, load_or_fail
from aggregator.config import Configuration
from aggregator.errors import AggregatorError, SettingError
from aggregator.plugins import Plugins

_AT_FAULT = 1
_STDIN = Path("-")
_WAITS = (
    "Type or paste events, one JSON object a line, then Ctrl-D. (Ctrl-C, and --sample instead, "
    "takes a few that are made up.)"
)


def _print_sample(context: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        click.echo(SAMPLE, nl=False)
        context.exit()


@click.command(name="try")
@click.argument("pipeline")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--sample", "is_sample", is_flag=True, help="Take a few events that are made up.")
@click.option(
    "--print-sample",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_sample,
    help="Only print those events, to begin a file of your own with.",
)
@click.option(
    "--together", "is_together", is_flag=True, help="Send all lines of a file as one submission."
)
@click.option(
    "--set",
    "given",
    metavar="STAGE.NAME=VALUE",
    multiple=True,
    help="A setting of a stage. The value is TOML, or text if it is none.",
)
@click.option("--config", metavar="FILE", help="TOML file with settings, and a [stages.NAME] each.")
@click.option("--json", "is_json", is_flag=True, help="Print results as the API has them.")
def command(
    *,
    pipeline: str,
    files: tuple[Path, ...],
    is_sample: bool,
    is_together: bool,
    given: tuple[str, ...],
    config: str | None,
    is_json: bool,
) -> None:
    """Run events through a pipeline, stage files too.

    It prints what becomes of each event. A stage of PIPELINE is a name that is installed, or a
    file: ./sample.py:Sample, or ./sample.py if it holds one stage. It is named after its class:
    DropSmall is drop_small, in --set and in [stages.drop_small] too. A stage alone is put where
    most stand: a batch stage in 'validate | dedup STAGE persist', an intake stage in 'validate
    STAGE | dedup persist'.

    Events come from the files, or from standard input: one a line (NDJSON), or a JSON document.
    They go through the pipeline as in the service, into a store in memory. Each line is a
    submission of its own, sent once the one before is answered; an array is one submission.

    \b
    Example:
      aggregator try ./sample.py --sample
      aggregator try 'validate | dedup ./sample.py:Sample persist' < events.ndjson
      aggregator try ./sample.py --set sample.rate=0.1 events.ndjson

    \b
    Exit status:
      0  no stage was at fault
      1  one was; where is said
      2  a stage, a setting or a file cannot be used
    """
    try:
        named, plugins = resolve(pipeline, Plugins.installed())
        configuration = _configured(named, config, given)
        sent = list(bodies(_sources(files, is_sample), is_together=is_together))
        tried, faults = asyncio.run(_run(configuration, plugins, sent))
    except AggregatorError as error:
        _tell_where(error, pipeline)
        fail(error)
    if is_json:
        for line in (line for one in tried for line in report.as_json(one)):
            click.echo(line)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(f"pipeline  {named}\n\n{report.table(tried, width)}\n\n{report.totals(tried)}")
    if faults:
        click.echo(f"{faults}" if is_json else f"\n{faults}", err=True)
        sys.exit(_AT_FAULT)


async def _run(
    configuration: Configuration, plugins: Plugins, sent: Sequence[Body]
) -> tuple[list[Tried], Faults]:
    async with running(configuration, plugins, _end_hung) as trial:
        tried = [await trial.send(body) for body in sent]
        faults = Faults(trial.stages)
    for one in tried:
        faults.add(one)
    for error in trial.failed_closes:
        faults.add_close(error)
    return tried, faults


def _end_hung(trial: Trial, told: str, frame: FrameType | None) -> None:
    """Say which stage hangs, and end: nothing that waits for it can be cancelled."""
    faults = Faults(trial.stages)
    faults.add_hang(trial.under_way, told, frame)
    click.echo(f"{faults}", err=True)
    os._exit(_AT_FAULT)


def _sources(files: Sequence[Path], is_sample: bool) -> list[Source]:
    if is_sample and files:
        raise SettingError(
            "--sample takes its own events, and reads no file: leave one of them out"
        )
    if is_sample:
        return [Source("the sample", SAMPLE)]
    return [_typed() if path == _STDIN else Source.file(path) for path in files or [_STDIN]]


def _typed() -> Source:
    if sys.stdin.isatty():
        click.echo(_WAITS, err=True)
    return Source("standard input", sys.stdin.buffer.read())


def _configured(pipeline: str, config: str | None, given: Sequence[str]) -> Configuration:
    flags = {"config": config, "pipeline": pipeline, "store": "memory:", "queue": "memory:"}
    configuration = load_or_fail(flags)
    stages = {name: dict(table) for name, table in configuration.stages.items()}
    for text in given:
        name, value = _setting(text)
        stage, *tables, last = name.split(".")
        table = stages.setdefault(stage, {})
        for inner in tables:
            table = table.setdefault(inner, {})
            if not isinstance(table, dict):
                raise SettingError(f"--set {text}: {inner} has a value already, and is no table")
        table[last] = value
    return dataclasses.replace(configuration, stages=stages)


def _setting(text: str) -> tuple[str, Any]:
    """The name and the value of a --set. Raises SettingError."""
    name, equals, value = text.partition("=")
    if not (equals and re.fullmatch(r"[\w-]+(\.[\w-]+)+", name)):
        raise SettingError(f"--set {text}: should be STAGE.NAME=VALUE, as in sample.rate=0.1")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return name, value
    return name, parsed["value"] if len(parsed) == 1 else value


def _tell_where(error: BaseException, pipeline: str) -> None:
    """Print the lines of the author's files that made a stage unusable."""
    own = OwnFiles(file.path.parent for file in files_in(pipeline).values())
    if lines := own.lines_of(error):
        click.echo(lines, err=True)
