"""How a command asks a running service, of which it knows the URL or the settings."""

import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from aggregator.cli.options import fail, load_or_fail
from aggregator.core.redact import redact
from aggregator.errors import SettingError
from aggregator.sockets import url_of

_LIMIT = 5.0  # seconds
_EXIT_NOT_OK = 1


def ask(url: str | None, flags: dict[str, Any], path: str, headers: Mapping[str, str]) -> None:
    """Print what the service answers; end with 1 if it refuses, or does not answer.

    Without a URL it is the one of the settings. That has no other certificate than theirs, which is
    trusted whatever its name. Any other has to be one that this machine trusts.
    """
    context = None
    if url is None:
        own = load_or_fail(flags).settings
        url = url_of(own.host, own.port, tls=bool(own.tls_cert))
        try:
            if own.tls_cert:
                # It comes with all that serves, which who only asks needs for this alone.
                from aggregator.tls import trusting  # noqa: PLC0415

                context = trusting(Path(own.tls_cert))
        except SettingError as error:
            fail(error)
    elif "://" not in url:
        url = f"http://{url}"
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}{path}", headers=dict(headers))  # noqa: S310
        with direct.open(request, timeout=_LIMIT) as response:
            click.echo(response.read().decode(errors="replace"))
            return
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            told = error.read().decode(errors="replace")
        else:
            why = getattr(error, "reason", error)
            told = f"aggregator: {redact('', url)} does not answer: {why}"
    click.echo(told, err=True)
    sys.exit(_EXIT_NOT_OK)
