"""`aggregator serve`: runs the service."""

import asyncio
import logging
import os
import sys
from typing import Any

import click

from aggregator import logs
from aggregator.app import CERTIFICATE, TOKENS
from aggregator.cli.options import WithHeadings, fail, with_settings
from aggregator.cli.wiring import wire
from aggregator.config import Configuration, load
from aggregator.errors import AggregatorError
from aggregator.plugins import Plugins
from aggregator.server import serve
from aggregator.tls import Certificate
from aggregator.token_file import TokenFile

log = logging.getLogger(__name__)

_READ_AGAIN = ("log_level", "log_format", "access_log")
"""Settings that a running service takes over."""


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
        reloading = Reloading(configuration, flags, app.get(TOKENS), app.get(CERTIFICATE))
        status = asyncio.run(serve(app, configuration.settings, reloading.reload))
    except AggregatorError as error:
        fail(error)
    sys.exit(status)


class Reloading:
    """Reads the settings again while the service runs, the tokens, and the certificate.

    What is logged, and how, is put into force. To have other files of tokens, or of a certificate,
    takes a start.
    """

    def __init__(
        self,
        started: Configuration,
        flags: dict[str, Any],
        tokens: TokenFile | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._started = started
        self._in_force = started.settings
        self._flags = flags
        self._tokens = tokens
        self._certificate = certificate

    def reload(self) -> None:
        """Put them into force, and name what needs a restart; bad settings change nothing."""
        if self._tokens:
            self._tokens.read_again()
        if self._certificate:
            self._certificate.read_again()
        try:
            found = load(self._flags, os.environ, Plugins.installed().problems)
        except AggregatorError as error:
            log.error("SIGHUP: the settings in force stay: %s", error)
            return
        before, after = self._in_force, found.settings
        logs.configure(after.log_level, after.log_format, access=after.access_log)
        self._in_force = after
        told = [
            f"{name} is {getattr(after, name)}"
            for name in _READ_AGAIN
            if getattr(before, name) != getattr(after, name)
        ]
        changed = "; ".join(told) or "no setting that can be read again has changed"
        log.warning("SIGHUP: %s%s", changed, self._needing_restart(found))

    def _needing_restart(self, found: Configuration) -> str:
        before, after = self._started.settings, found.settings
        changed = [
            name
            for name in found.origins
            if name not in _READ_AGAIN and getattr(before, name) != getattr(after, name)
        ]
        if self._started.stages != found.stages:
            changed.append("[stages]")
        if self._started.topics != found.topics:
            changed.append("[topics]")
        return f"; in force after a restart: {', '.join(changed)}" if changed else ""
