"""`aggregator new-stage`: writes the package of a new stage."""

from pathlib import Path

import click

from aggregator.authoring.new_package import write
from aggregator.cli.options import fail
from aggregator.errors import AggregatorError
from aggregator.plugins import Plugins


@click.command(name="new-stage")
@click.argument("name")
@click.option("--intake", "is_intake", is_flag=True, help="One that stands left of the bar.")
def command(name: str, is_intake: bool) -> None:
    """Write the package of a new stage.

    It stands in ./aggregator-NAME and works: the stage with a setting, its tests, a pyproject.toml,
    some events and a README; make your own of it. A batch stage runs in the transaction, right of
    the bar; with --intake it is an intake stage, which runs in the request.

    \b
    Example:
      aggregator new-stage drop-small

    \b
    Exit status:
      0  it is written
      2  it cannot be; why is said
    """
    try:
        names = write(name, Path(), Plugins.installed(), is_intake=is_intake)
    except AggregatorError as error:
        fail(error)
    click.echo(
        f"{names.package}/ holds the stage {names.stage}. What comes next:\n\n"
        f"  cd {names.package}\n"
        f"  aggregator try '{names.pipeline}' events.ndjson\n"
        f"  pip install -e '.[test]' && pytest\n"
        f"  aggregator serve --pipeline '{names.installed_pipeline}'"
    )
