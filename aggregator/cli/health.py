"""`aggregator health`: asks a running service whether it is ready."""

from typing import Any

import click

from aggregator.cli.asking import ask
from aggregator.cli.options import with_settings


@click.command()
@click.option("--url", metavar="URL", help="Of the service. Default: what the settings say.")
@with_settings("host", "port", "tls_cert", "tls_key")
def command(url: str | None, **flags: Any) -> None:
    """Ask a service whether it is ready.

    \b
    Example:
      aggregator health --port 9000

    \b
    Exit status:
      0  it answers that it is ready
      1  it does not
      2  there are faults in the settings
    """
    ask(url, flags, "/readyz", {})
