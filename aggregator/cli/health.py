"""`aggregator health`: asks a running service whether it is ready."""

import sys
import urllib.error
import urllib.request

import click

from aggregator.cli.options import load_or_fail
from aggregator.sockets import url_of


@click.command()
@click.option("--url", metavar="URL", help="The service. Default: the one of the environment.")
def health(url: str | None) -> None:
    """Exit with 0 if the service answers that it is ready, with 1 if not."""
    if url is None:
        own = load_or_fail({}).settings
        url = url_of(own.host, own.port)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url.rstrip('/')}/readyz", timeout=5) as response:
            click.echo(response.read().decode())
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = error.read().decode() if isinstance(error, urllib.error.HTTPError) else error
        click.echo(reason, err=True)
        sys.exit(1)
