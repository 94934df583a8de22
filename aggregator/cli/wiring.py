"""What `serve` runs and `settings` checks: one function, so that they find the same faults."""

import os
from typing import Any

from aiohttp import web

from aggregator import logs
from aggregator.app import create_app
from aggregator.config import Configuration, load
from aggregator.plugins import Plugins


def wire(flags: dict[str, Any]) -> tuple[Configuration, web.Application]:
    """The settings in force, and the service wired with them and not started.

    Raises SettingError, a line for each fault.
    """
    plugins = Plugins.installed()
    configuration = load(flags, os.environ, plugins.problems)
    settings = configuration.settings
    logs.configure(settings.log_level, settings.log_format, access=settings.access_log)
    return configuration, create_app(configuration, plugins)
