"""Plugins of the tests, beside those that are installed."""

from importlib.metadata import EntryPoint

from aggregator.plugins import STAGES, Plugin, Plugins

INSTALLED = Plugins.installed()
"""Looked up once: it takes longer than starting the app."""


def with_stages(**targets: str) -> Plugins:
    """What is installed, and stages under further names: `with_stages(loses="module:Class")`."""
    added = [with_plugin(STAGES, name, target) for name, target in targets.items()]
    return Plugins([*INSTALLED.found, *added])


def with_plugin(group: str, name: str, target: str) -> Plugin:
    """A plugin as an entry point would register it."""
    return Plugin(group, name, target, "tests 0", EntryPoint(name, target, group))
