"""`aggregator serve`: runs the service."""

import asyncio
import sys
from typing import Any

import click

from aggregator.cli.options import WithHeadings, fail, with_settings
from aggregator.cli.wiring import wire
from aggregator.errors import AggregatorError
from aggregator.server import serve


@click.command(cls=WithHeadings)
@with_settings()
def command(**flags: Any) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Each setting is a flag, a variable AGGREGATOR_… in the environment, and a key of the TOML file;
    a flag wins over the environment, that over the file.

    \b
    Example:
      aggregator serve --port 9000 --store sqlite:////srv/events/aggregator.db

    \b
    Exit status:
      0   stopped by a signal; everybody who waited has an answer
      1   it could not go on, or could not stop in time
      2   it could not start; why is said
      70  a stage, or the event loop, was stuck
    """
    try:
        configuration, app = wire(flags)
        status = asyncio.run(serve(app, configuration.settings))
    except AggregatorError as error:
        fail(error)
    sys.exit(status)
