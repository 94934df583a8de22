"""The command `aggregator`."""

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from aggregator import __version__, config, logs
from aggregator.app import create_app
from aggregator.cli.backup import backup as run_backup
from aggregator.cli.change_key import change_key as run_change
from aggregator.config import Check, Configuration, load, unchecked
from aggregator.core.redact import redact
from aggregator.errors import AggregatorError
from aggregator.pipeline.runner import PipelineSpec
from aggregator.plugins import GROUPS, Plugins
from aggregator.prove.command import command as prove
from aggregator.server import serve as run_server
from aggregator.server import url_of

_EXIT_USAGE = 2
_CONFIG_HELP = "TOML file with settings, and a table [stages.NAME] for each stage that has some."


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aggregator")
def main() -> None:
    """Takes events over HTTP and stores each exactly once."""
    logs.configure("info")


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
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


@main.command()
@_with_settings
def serve(**flags: Any) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Each option is also a variable AGGREGATOR_… in the environment, and a key in the TOML file.
    """
    plugins = Plugins.installed()
    configuration = _load(flags, plugins.problems)
    logs.configure(configuration.settings.log_level)
    try:
        app = create_app(configuration, plugins)
        status = asyncio.run(run_server(app, configuration.settings))
    except AggregatorError as error:
        _fail(error)
    sys.exit(status)


@main.command(name="settings")
@_with_settings
def show_settings(**flags: Any) -> None:
    """Print the settings in force, and where each comes from."""
    configuration = _load(flags)
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
    _print_table([("setting", "value", "from"), *rows])


@main.command()
@_with_settings
def plugins(**flags: Any) -> None:
    """Print what is installed in each slot, from which package, and the pipeline."""
    configuration = _load(flags, _unreadable_order)
    found = Plugins.installed().found
    for group in GROUPS:
        click.echo(group)
        for plugin in found:
            if plugin.group == group:
                click.echo(f"  {plugin.name:<12} {plugin.target:<45} {plugin.package}")
    click.echo(f"pipeline\n  {PipelineSpec.parse(configuration.settings.pipeline)}")


@main.command(name="change-key")
@click.option("--yes", is_flag=True, help="Do it; without this, only say what it means.")
@_with_settings
def change_key(yes: bool, **flags: Any) -> None:
    """Make keys of what the settings say from now on, in a store that has others."""
    plugins = Plugins.installed()
    configuration = _load(flags, plugins.problems)
    store = plugins.store(configuration.settings)
    try:
        changing = run_change(store, configuration.policies.key_spec, configuration.indexed, yes)
        is_done, told = asyncio.run(changing)
    except AggregatorError as error:
        _fail(error)
    click.echo(told)
    sys.exit(0 if is_done else 1)


main.add_command(prove)


@main.command()
@click.argument("destination", type=click.Path(path_type=Path))
@_with_settings
def backup(destination: Path, **flags: Any) -> None:
    """Write a copy of the store to the new file DESTINATION, while the service runs or not."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up as Ctrl-C does
    plugins = Plugins.installed()
    configuration = _load(flags, plugins.problems)
    store = plugins.store(configuration.settings)
    try:
        click.echo(asyncio.run(run_backup(store, destination)))
    except AggregatorError as error:
        _fail(error)


@main.command()
@click.option("--url", metavar="URL", help="The service. Default: the one of the environment.")
def health(url: str | None) -> None:
    """Exit with 0 if the service answers that it is ready, with 1 if not."""
    url = url or _own_url(_load({}).settings)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url.rstrip('/')}/readyz", timeout=5) as response:
            click.echo(response.read().decode())
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = error.read().decode() if isinstance(error, urllib.error.HTTPError) else error
        click.echo(reason, err=True)
        sys.exit(1)


def _own_url(own: config.Settings) -> str:
    """Where this machine reaches a service that runs with these settings."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(own.host, own.host)  # noqa: S104
    return url_of(host, own.port)


def _load(flags: dict[str, Any], check: Check = unchecked) -> Configuration:
    try:
        return load(flags, os.environ, check)
    except AggregatorError as error:
        _fail(error)


def _unreadable_order(configuration: Configuration) -> list[str]:
    try:
        PipelineSpec.parse(configuration.settings.pipeline)
    except AggregatorError as error:
        return [str(error)]
    return []


def _fail(error: AggregatorError) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"aggregator: {line}", err=True)
    sys.exit(_EXIT_USAGE)


def _print_table(rows: list[tuple[str, str, str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, value, origin in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
