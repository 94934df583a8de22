"""What the commands have in common: a flag for every setting, and how a fault is told."""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from aggregator import config
from aggregator.config import Check, Configuration, load, unchecked
from aggregator.errors import AggregatorError

_EXIT_USAGE = 2
_CONFIG_HELP = "TOML file with settings, and a table [stages.NAME] for each stage that has some."


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command a flag for every setting."""
    for each in reversed(config.each()):
        unit = f" [{each.metadata['unit']}]" if each.metadata["unit"] else ""
        command = click.option(
            f"--{each.name.replace('_', '-')}",
            each.name,
            metavar="VALUE",
            help=f"{each.metadata['help']}{unit} Default: {each.default}",
        )(command)
    return click.option("--config", metavar="FILE", help=_CONFIG_HELP)(command)


def load_or_fail(flags: dict[str, Any], check: Check = unchecked) -> Configuration:
    """The configuration of flags, environment and file; ends the process if it has faults."""
    try:
        return load(flags, os.environ, check)
    except AggregatorError as error:
        fail(error)


def fail(error: AggregatorError) -> NoReturn:
    """Tell the error, a line for each fault, and end with 2."""
    for line in str(error).splitlines():
        click.echo(f"aggregator: {line}", err=True)
    sys.exit(_EXIT_USAGE)


def print_table(rows: list[tuple[str, str, str]]) -> None:
    """Print three columns, aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, value, origin in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
