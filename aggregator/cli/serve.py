"""`aggregator serve`: runs the service."""

import asyncio
import sys
from typing import Any

import click

from aggregator import logs
from aggregator.app import create_app
from aggregator.cli.options import fail, load_or_fail, with_settings
from aggregator.errors import AggregatorError
from aggregator.plugins import Plugins
from aggregator.server import serve as run_server


@click.command()
@with_settings
def serve(**flags: Any) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Each option is also a variable AGGREGATOR_… in the environment, and a key in the TOML file.
    """
    plugins = Plugins.installed()
    configuration = load_or_fail(flags, plugins.problems)
    logs.configure(configuration.settings.log_level)
    try:
        app = create_app(configuration, plugins)
        status = asyncio.run(run_server(app, configuration.settings))
    except AggregatorError as error:
        fail(error)
    sys.exit(status)
