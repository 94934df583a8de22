"""`aggregator plugins`: what is installed in each slot."""

from typing import Any

import click

from aggregator.cli.options import load_or_fail, with_settings
from aggregator.config import Configuration
from aggregator.errors import AggregatorError
from aggregator.pipeline.runner import PipelineSpec
from aggregator.plugins import GROUPS, Plugins


@click.command()
@with_settings
def plugins(**flags: Any) -> None:
    """Print what is installed in each slot, from which package, and the pipeline."""
    configuration = load_or_fail(flags, _unreadable_order)
    found = Plugins.installed().found
    for group in GROUPS:
        click.echo(group)
        for plugin in found:
            if plugin.group == group:
                click.echo(f"  {plugin.name:<12} {plugin.target:<45} {plugin.package}")
    click.echo(f"pipeline\n  {PipelineSpec.parse(configuration.settings.pipeline)}")


def _unreadable_order(configuration: Configuration) -> list[str]:
    try:
        PipelineSpec.parse(configuration.settings.pipeline)
    except AggregatorError as error:
        return [str(error)]
    return []
