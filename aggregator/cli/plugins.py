"""`aggregator plugins`: what is installed in each slot."""

from typing import Any

import click

from aggregator.cli.options import fail, load_or_fail, with_settings
from aggregator.errors import AggregatorError, SettingError
from aggregator.pipeline.runner import PipelineSpec
from aggregator.plugins import GROUPS, QUEUES, ROUTES, STAGES, STORES, Plugin, Plugins
from aggregator.queue import Queue
from aggregator.route import Routes
from aggregator.stage import Stage
from aggregator.store import Store

_CONTRACTS: dict[str, Any] = {STAGES: Stage, STORES: Store, QUEUES: Queue, ROUTES: Routes}


@click.command()
@with_settings("pipeline")
def command(**flags: Any) -> None:
    """Print what is installed in each slot.

    Each with its class and the package that it is from, and the fault of one that cannot be loaded;
    at the end the pipeline in force.

    \b
    Example:
      aggregator plugins

    \b
    Exit status:
      0  all is listed
      2  the pipeline cannot be read, or there are other faults in the settings
    """
    configuration = load_or_fail(flags)
    found = Plugins.installed().found
    for group in GROUPS:
        click.echo(group)
        for plugin in found:
            if plugin.group == group:
                click.echo(f"  {plugin.name:<12} {plugin.target:<45} {plugin.package}")
                if fault := _fault(plugin):
                    click.echo(f"  {'':<12} {fault}")
    try:
        click.echo(f"pipeline\n  {PipelineSpec.parse(configuration.settings.pipeline)}")
    except AggregatorError as error:
        fail(error)


def _fault(plugin: Plugin) -> str | None:
    """Why the plugin cannot be used, if so."""
    try:
        plugin.load(_CONTRACTS[plugin.group])
    except SettingError as error:
        return str(error).removeprefix(f"{plugin} ")
    return None
