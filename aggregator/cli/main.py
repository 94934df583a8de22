"""The command `aggregator`."""

import click

from aggregator import __version__, logs
from aggregator.cli import backup, change_key, drop_index, new_stage, try_stage
from aggregator.cli.health import health
from aggregator.cli.plugins import plugins
from aggregator.cli.serve import serve
from aggregator.cli.settings import settings
from aggregator.prove.command import command as prove


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aggregator")
def main() -> None:
    """Takes events over HTTP and stores each exactly once."""
    logs.configure("info")


COMMANDS = (
    serve,
    settings,
    plugins,
    change_key.command,
    drop_index.command,
    prove,
    backup.command,
    health,
    try_stage.command,
    new_stage.command,
)
for command in COMMANDS:
    main.add_command(command)
