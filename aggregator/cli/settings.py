"""`aggregator settings`: what is in force, and where each comes from."""

from typing import Any

import click

from aggregator.cli.options import load_or_fail, print_table, with_settings
from aggregator.core.redact import redact


@click.command()
@with_settings
def settings(**flags: Any) -> None:
    """Print the settings in force, and where each comes from."""
    configuration = load_or_fail(flags)
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
    print_table([("setting", "value", "from"), *rows])
