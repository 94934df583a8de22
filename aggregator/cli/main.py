"""The command `aggregator`."""

import os
import signal
import sys
from importlib import import_module
from typing import NamedTuple

import click

from aggregator import __version__, logs


class Entry(NamedTuple):
    """A command: what it does, in a line, and the module that has it, as `command`."""

    summary: str
    module: str


COMMANDS = {
    "serve": Entry("Run the service until SIGTERM or Ctrl-C.", "aggregator.cli.serve"),
    "settings": Entry("Check the settings and print those in force.", "aggregator.cli.settings"),
    "plugins": Entry("Print what is installed in each slot.", "aggregator.cli.plugins"),
    "health": Entry("Ask a service whether it is ready.", "aggregator.cli.health"),
    "token": Entry("Make tokens, list, rotate and revoke them.", "aggregator.cli.token"),
    "backup": Entry("Write a copy of the store to a new file.", "aggregator.cli.backup"),
    "check": Entry("Read a whole store, and tell what is damaged.", "aggregator.cli.check"),
    "change-key": Entry("Make the keys of a store of something else.", "aggregator.cli.change_key"),
    "drop-index": Entry("Drop the index of fields of payloads.", "aggregator.cli.drop_index"),
    "try": Entry("Run events through a pipeline, stage files too.", "aggregator.cli.try_stage"),
    "new-stage": Entry("Write the package of a new stage.", "aggregator.cli.new_stage"),
    "prove": Entry("Kill a service of its own and check its word.", "aggregator.prove.command"),
}


class Commands(click.Group):
    """Imports a command when it is run: `aggregator health` needs nothing of the service."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Their names, in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[name].module).command
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each does, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def run() -> None:
    """The command, as a process of its own."""
    if sys.argv[1:2] == ["serve"]:
        _bear_signals()
    main()


def _bear_signals() -> None:
    """Let a start be ended, and no SIGHUP kill it, before the event loop hears them.

    Importing what serves is most of a start. And what is process 1, as in a container, is never
    told of a signal that it has no handler for.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aggregator")
def main() -> None:
    """Take events over HTTP and store each exactly once.

    `aggregator COMMAND -h` says what a command does, with an example.
    """
    logs.configure("info")
