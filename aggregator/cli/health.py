"""`aggregator health`: asks a running service whether it is ready."""

import http.client
import sys
import urllib.error
import urllib.request
from typing import Any

import click

from aggregator.cli.options import load_or_fail, with_settings
from aggregator.core.redact import redact
from aggregator.sockets import url_of


@click.command()
@click.option("--url", metavar="URL", help="Of the service. Default: what host and port say.")
@with_settings("host", "port")
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
    if url is None:
        own = load_or_fail(flags).settings
        url = url_of(own.host, own.port)
    elif "://" not in url:
        url = f"http://{url}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url.rstrip('/')}/readyz", timeout=5) as response:
            click.echo(response.read().decode(errors="replace"))
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            told = error.read().decode(errors="replace")
        else:
            told = (
                f"aggregator: {redact('', url)} does not answer: {getattr(error, 'reason', error)}"
            )
        click.echo(told, err=True)
        sys.exit(1)
