"""What the commands have in common: flags for settings, and how a fault is told."""

import os
import sys
from collections.abc import Callable
from dataclasses import Field
from typing import Any, NoReturn

import click

from aggregator import config
from aggregator.config import HEADINGS, Configuration, load
from aggregator.errors import AggregatorError

_EXIT_USAGE = 2
_CONFIG_HELP = "TOML file with settings and the tables of stages and topics."


class WithHeadings(click.Command):
    """A command whose help shows the settings under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the command itself first."""
        heading_of = {name: heading for heading, names in HEADINGS.items() for name in names}
        told: dict[str, list[tuple[str, str]]] = {"Options": []}
        for option in self.get_params(ctx):
            if record := option.get_help_record(ctx):
                told.setdefault(heading_of.get(option.name or "", "Options"), []).append(record)
        for heading, records in told.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each of these settings, or of all if none is named.

    The file and the environment give the others.
    """

    def with_flags(command: Callable[..., None]) -> Callable[..., None]:
        for each in reversed(config.each()):
            if each.name in names or not names:
                command = _flag(each)(command)
        return click.option("--config", metavar="FILE", help=_CONFIG_HELP)(command)

    return with_flags


def _flag(setting: Field[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    unit = setting.metadata["unit"]
    if isinstance(setting.default, bool):
        return click.option(
            f"--{setting.name.replace('_', '-')}",
            setting.name,
            is_flag=True,
            default=None,  # not given: the environment or the file may say so
            help=setting.metadata["help"],
        )
    default = "nothing" if setting.default == "" else f"{setting.default} {unit}".rstrip()
    return click.option(
        f"--{setting.name.replace('_', '-')}",
        setting.name,
        metavar="VALUE",
        help=f"{setting.metadata['help']} Default: {default}",
    )


def load_or_fail(flags: dict[str, Any]) -> Configuration:
    """The configuration of flags, environment and file; ends the process if it has faults."""
    try:
        return load(flags, os.environ)
    except AggregatorError as error:
        fail(error)


def fail(error: AggregatorError) -> NoReturn:
    """Tell the error, a line for each fault, and end with 2."""
    tell(error)
    sys.exit(_EXIT_USAGE)


def tell(error: AggregatorError) -> None:
    """Write the error to standard error, a line for each fault."""
    for line in str(error).splitlines():
        click.echo(f"aggregator: {line}", err=True)


def print_table(rows: list[tuple[str, str, str]]) -> None:
    """Print three columns, aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, value, origin in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
