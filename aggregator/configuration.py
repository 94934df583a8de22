"""Puts the settings together.

A flag wins over the environment, that over the file, that over the default.
"""

import logging
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from marshmallow import Schema, ValidationError

from aggregator import checks
from aggregator.core.policy import Rules, TopicRules
from aggregator.core.redact import masked
from aggregator.errors import SettingError
from aggregator.settings import Settings, each, listed

log = logging.getLogger(__name__)

PREFIX = "AGGREGATOR_"
_CONFIG = "config"
_STAGES = "stages"
_TOPICS = "topics"


@dataclass(frozen=True)
class Configuration:
    """The settings in force, the tables of stages and topics, and where each setting came from."""

    settings: Settings
    stages: Mapping[str, Mapping[str, Any]]
    topics: Mapping[str, Mapping[str, Any]]
    origins: Mapping[str, str]

    @property
    def rules(self) -> Rules:
        """The rules of every topic. Raises ValueError; never for what `load` has returned."""
        key, on_conflict = self.settings.key, self.settings.on_conflict
        usual = TopicRules.of(key, on_conflict)
        return Rules(
            usual,
            {
                topic: TopicRules.of(
                    str(table.get("key", key)), str(table.get("on_conflict", on_conflict))
                )
                for topic, table in self.topics.items()
            },
        )

    @property
    def indexed(self) -> list[str]:
        """The pointers that events are found by."""
        return listed(self.settings.indexed)


Check = Callable[[Configuration], list[str]]


def unchecked(_: Configuration) -> list[str]:
    """Find nothing wrong."""
    return []


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], check: Check = unchecked
) -> Configuration:
    """Put the settings together. Raises SettingError that names everything wrong at once.

    `check` finds what is wrong with settings that are right by themselves; it is given the
    defaults where they are not.
    """
    given, named = dict(flags), _from_environment(environ)
    paths = given.pop(_CONFIG, None), named.pop(_CONFIG, None)
    path = paths[0] or paths[1]
    file = _read(Path(path)) if path else {}
    stages, topics = file.pop(_STAGES, {}), file.pop(_TOPICS, {})
    layers = {
        "flag": {name: value for name, value in given.items() if value is not None},
        "environment": named,
        f"file {path}": file,
    }
    values: dict[str, Any] = {}
    origins = {each_.name: "default" for each_ in each()}
    for origin, layer in reversed(layers.items()):
        for name, value in layer.items():
            values[name], origins[name] = value, origin
    settings, problems = _checked(values, origins)
    table_problems = checks.table_problems(_STAGES, stages) + checks.table_problems(_TOPICS, topics)
    if table_problems:
        stages, topics = {}, {}
    configuration = Configuration(settings, stages, topics, origins)
    problems += table_problems + checks.problems(settings, topics)
    problems += check(configuration)
    if problems:
        raise SettingError("\n".join(problems))
    return configuration


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"config: cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"config: {path} is not TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours; unknown names only warn, for Kubernetes adds its own to every pod."""
    known = {each_.name for each_ in each()} | {_CONFIG}
    found = {}
    for variable, value in environ.items():
        if variable.startswith(PREFIX):
            name = variable.removeprefix(PREFIX).lower()
            if name in known:
                found[name] = value
            else:
                log.warning("%s in the environment is no setting of ours", variable)
    return found


def _checked(values: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings, with the defaults in place of bad ones, and what is wrong with those."""
    schema = Schema.from_dict({each_.name: each_.metadata["kind"] for each_ in each()})()
    try:
        return Settings(**schema.load(dict(values))), []
    except ValidationError as error:
        said = error.normalized_messages().items()  # type: ignore[no-untyped-call]
        problems = [_told(name, values[name], origins[name], " ".join(why)) for name, why in said]
        return Settings(**cast("dict[str, Any]", error.valid_data)), problems


def _told(name: str, value: object, origin: str, why: str) -> str:
    shown = masked("", value)
    told = f"{name}: {shown!r} (from {origin}): {why}"
    if name == "port" and "://" in shown:
        told += (
            " Kubernetes sets this for a Service named aggregator: "
            "set enableServiceLinks: false in the pod."
        )
    return told
