"""`aggregator settings`: what is in force, and where each comes from."""

from typing import Any

import click

from aggregator.cli.options import WithHeadings, fail, print_table, with_settings
from aggregator.cli.wiring import wire
from aggregator.config import Configuration
from aggregator.core.redact import redact
from aggregator.errors import AggregatorError


@click.command(cls=WithHeadings)
@with_settings()
def command(**flags: Any) -> None:
    """Check the settings and print those in force.

    Beside each stands where it comes from; passwords are masked. With faults nothing is in force:
    each is told, as `aggregator serve` would tell it, and nothing is printed. Nothing is opened.

    \b
    Example:
      aggregator settings --config aggregator.toml

    \b
    Exit status:
      0  there are none that can be found before a start
      2  there are faults
    """
    try:
        configuration, _ = wire(flags)
    except AggregatorError as error:
        fail(error)
    print_table([("setting", "value", "from"), *_rows(configuration)])


def _rows(configuration: Configuration) -> list[tuple[str, str, str]]:
    rows = [
        (name, redact("", getattr(configuration.settings, name)), origin)
        for name, origin in configuration.origins.items()
    ]
    rows += [
        (f"topics.{topic}.{name}", str(value), "file")
        for topic, table in configuration.topics.items()
        for name, value in table.items()
    ]
    rows += [
        (f"stages.{stage}.{name}", redact(name, value), "file")
        for stage, table in configuration.stages.items()
        for name, value in table.items()
    ]
    return rows
