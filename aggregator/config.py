"""Every setting, once, with its name, type, default, unit and help; how they are put together.

A flag wins over the environment, that over the file, that over the default. The docs and `--help`
are made of the table.
"""

import difflib
import logging
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

from marshmallow import Schema, ValidationError
from marshmallow import fields as kinds
from marshmallow.validate import Length, OneOf, Range

from aggregator.core import json_pointer
from aggregator.core.budget import Budget
from aggregator.core.identity import DEFAULT_KEY_SPEC, KeySpec
from aggregator.core.policy import OnConflict, Policies, TopicPolicy
from aggregator.core.redact import redact
from aggregator.errors import SettingError

POLICIES = [policy.value for policy in OnConflict]
"""What `on_conflict` may be, for all topics or for one."""


class _Whole(kinds.Integer):
    """A whole number, or the digits of one, which is all that flags and the environment hold."""

    def _deserialize(self, value: Any, *rest: Any, **more: Any) -> Any:
        digits = isinstance(value, str) and re.fullmatch("-?[0-9]+", value)
        return super()._deserialize(int(value) if digits else value, *rest, **more)


def _text(default: str, help_: str, *checks: Any, least: int = 1) -> Any:
    kind = kinds.String(validate=[Length(min=least), *checks])
    return field(default=default, metadata={"kind": kind, "unit": "", "help": help_})


def _choice(default: str, choices: list[str], help_: str) -> Any:
    others = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return _text(default, f"{help_}: {others}.", OneOf(choices))


def _whole(default: int, unit: str, help_: str, least: int = 1, most: int | None = None) -> Any:
    kind = _Whole(strict=True, validate=Range(least, most))
    return field(default=default, metadata={"kind": kind, "unit": unit, "help": help_})


def _positive(default: float, unit: str, help_: str, most: float | None = None) -> Any:
    kind = kinds.Float(validate=Range(0, most, min_inclusive=False))
    return field(default=default, metadata={"kind": kind, "unit": unit, "help": help_})


def _limit(default: float, unit: str, help_: str) -> Any:
    kind = kinds.Float(validate=Range(0))
    return field(default=float(default), metadata={"kind": kind, "unit": unit, "help": help_})


def _switch(help_: str) -> Any:
    return field(default=False, metadata={"kind": kinds.Boolean(), "unit": "", "help": help_})


def _seconds(default: float, help_: str) -> Any:
    return _positive(default, "seconds", help_)


@dataclass(frozen=True)
class Settings:
    """What the service runs with. Read once, at the start, and handed on."""

    host: str = _text("127.0.0.1", "Address to listen on.")
    port: int = _whole(8080, "", "Port to listen on; 0 picks a free one.", least=0, most=65535)
    metrics_port: int = _whole(
        0, "", "Port for /metrics alone, which asks for no token; 0 for none.", least=0, most=65535
    )
    tls_cert: str = _text(
        "", "File of a certificate with its chain, in PEM; with it, TLS is spoken.", least=0
    )
    tls_key: str = _text("", "File of its key, in PEM, without a passphrase.", least=0)
    hosts: str = _text(
        "",
        "Names that Host may have, with commas; without any, it is looked at on loopback only.",
        least=0,
    )
    cors_origins: str = _text(
        "", "Origins whose pages may use the service, with commas, or *.", least=0
    )

    tokens: str = _text("", "File of tokens; without any, everybody may do everything.", least=0)
    open: bool = _switch("Let other machines do everything without tokens.")

    connections: int = _whole(1000, "connections", "Most connections open at once.")
    client_share: float = _positive(
        0.25,
        "",
        "Part of each bound; the last quarter is kept for clients that hold less. 1 keeps none.",
        most=1,
    )
    rate_events: float = _limit(0, "events a second", "Most that one client publishes; 0: any.")
    rate_bytes: float = _limit(0, "bytes a second", "Most that one client publishes; 0: any.")
    burst: float = _seconds(10.0, "So many seconds of these two may come at once.")
    conflict_rate: float = _limit(
        10,
        "conflicts a second",
        "Most that a token is told of which may not read and has no source of its own; 0: any.",
    )
    proxies: str = _text(
        "",
        "Proxies that say whose requests they forward: addresses, networks, unix; with commas.",
        least=0,
    )

    store: str = _text("sqlite:///data/aggregator.db", "URL of the store.")
    read_only: bool = _switch("Only read the store, and write nothing.")
    queue: str = _text("memory:", "URL of the queue.")
    pipeline: str = _text("validate | dedup persist", "Stages in order; the bar is the queue.")
    batch_events: int = _whole(10_000, "events", "Events after which a batch is full.")
    stage_timeout: float = _seconds(5.0, "How long one call of a stage may take.")
    indexed: str = _text(
        "", "JSON pointers into payloads that events are found by, with commas.", least=0
    )

    key: str = _text(
        DEFAULT_KEY_SPEC, "What makes two events the same: parts of the key, with commas."
    )
    on_conflict: str = _choice(
        "keep-first", POLICIES, "What to do with another content under a held key"
    )

    on_invalid: str = _choice("refuse", ["refuse", "quarantine"], "What to do with invalid events")
    quarantine_bytes: int = _whole(67_108_864, "bytes", "Most bytes kept in quarantine.")
    quarantine_days: float = _positive(
        30.0, "days", "How long events stay in quarantine.", most=36_500
    )

    max_events: int = _whole(10_000, "events", "Most events in one request.")
    max_event: int = _whole(1_048_576, "bytes", "Longest event.")
    max_body: int = _whole(16_777_216, "bytes", "Longest body of a request, decompressed.")
    body_timeout: float = _seconds(30.0, "How long a request's body may take to arrive.")
    body_rate: int = _whole(
        8192, "bytes a second", "Least rate at which a body may arrive; 0 for none.", least=0
    )
    queue_events: int = _whole(50_000, "events", "Most events accepted and not yet committed.")
    queue_bytes: int = _whole(33_554_432, "bytes", "Most bytes of requests under way.")

    answer_bytes: int = _whole(12_582_912, "bytes", "Most bytes of answers not read yet.")
    answer_timeout: float = _seconds(30.0, "How long a client may take to read an answer.")
    streams: int = _whole(100, "readers", "Most readers who follow the stream at once.")
    heartbeat: float = _seconds(15.0, "How long a stream may be silent.")

    log_format: str = _choice("text", ["text", "json"], "How to log")
    access_log: bool = _switch("Log a line for each request.")
    log_level: str = _choice(
        "info", ["debug", "info", "warning", "error"], "Least severe messages to log"
    )


HEADINGS = {
    "Listening": ("host", "port", "metrics_port", "tls_cert", "tls_key", "hosts", "cors_origins"),
    "Tokens": ("tokens", "open"),
    "Clients": (
        *("connections", "client_share", "rate_events", "rate_bytes", "burst"),
        *("conflict_rate", "proxies"),
    ),
    "Storing": (
        *("store", "read_only", "queue", "pipeline"),
        *("batch_events", "stage_timeout", "indexed"),
    ),
    "Keys and conflicts": ("key", "on_conflict"),
    "Invalid events and quarantine": ("on_invalid", "quarantine_bytes", "quarantine_days"),
    "Requests": (
        *("max_events", "max_event", "max_body", "body_timeout", "body_rate"),
        *("queue_events", "queue_bytes"),
    ),
    "Answers": ("answer_bytes", "answer_timeout", "streams", "heartbeat"),
    "Logging": ("log_format", "access_log", "log_level"),
}
"""Under which heading each setting is shown."""


def each() -> tuple[Field[Any], ...]:
    """The settings in order; kind, unit and help stand in a field's metadata."""
    return fields(Settings)


def listed(text: str) -> list[str]:
    """The parts of a setting that is written with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


_NAME = re.compile(r"(?=.{1,254}$)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://[^\s/?#@*]+", re.IGNORECASE)


def disagreements(settings: Settings, topics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Everything that is wrong with them, in words that name each."""
    return [
        *_rule_problems(settings, topics),
        *_disagreements(settings),
        *_tls_problems(settings),
        *_host_problems(settings),
        *_origin_problems(settings),
        *_proxy_problems(settings),
    ]


def _disagreements(settings: Settings) -> list[str]:
    found = []
    for smaller, larger, is_shared in (
        ("max_event", "max_body", False),
        ("max_body", "queue_bytes", True),
        ("max_events", "queue_events", True),
    ):
        low, high = getattr(settings, smaller), getattr(settings, larger)
        one = Budget(high, larger, settings.client_share).most_of_one if is_shared else high
        if low > high:
            found.append(f"{smaller}: {low} is more than {larger} allows ({high})")
        elif low > one:
            found.append(
                f"{smaller}: {low} is more than {one}, which one client may hold of {larger}: the "
                "last quarter is kept for others (client_share)"
            )
    return found


def _tls_problems(settings: Settings) -> list[str]:
    if bool(settings.tls_cert) == bool(settings.tls_key):
        return []
    given, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
    return [f"{missing}: {given} needs it: a certificate is used with its key"]


def _host_problems(settings: Settings) -> list[str]:
    return [
        f"hosts: {name!r} is no name: one is written events.example.org, without a port, and with "
        "xn-- where it is not ASCII; addresses need not be listed"
        for name in listed(settings.hosts)
        if not _NAME.fullmatch(name)
    ]


def _origin_problems(settings: Settings) -> list[str]:
    return [
        f"cors_origins: {origin!r} is no origin: one is written https://example.org, or * for all"
        for origin in listed(settings.cors_origins)
        if origin != "*" and not _ORIGIN.fullmatch(origin)
    ]


def _proxy_problems(settings: Settings) -> list[str]:
    found = []
    for proxy in listed(settings.proxies):
        try:
            if proxy != "unix":
                ip_network(proxy)
        except ValueError as error:
            found.append(
                f"proxies: {error}; write an address, a network such as 10.0.0.0/8, or unix"
            )
    return found


def table_problems(kind: str, tables: object) -> list[str]:
    """What is wrong with tables, of which there is one for each stage or topic."""
    if not isinstance(tables, Mapping):
        return [f"{kind}: should be tables, one [{kind}.NAME] for each that has settings"]
    return [
        f"{kind}.{name}: should be a table, [{kind}.{name}]"
        for name, table in tables.items()
        if not isinstance(table, Mapping)
    ]


def _rule_problems(settings: Settings, topics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = []
    for name, parse, value in (
        ("key", KeySpec, settings.key),
        *(("indexed", json_pointer.parse, text) for text in listed(settings.indexed)),
    ):
        try:
            parse(value)
        except ValueError as error:
            found.append(f"{name}: {error}")
    for topic, table in topics.items():
        problems = _TOPIC.validate(dict(table))
        found += [f"topics.{topic}.{name}: {' '.join(why)}" for name, why in problems.items()]
    return found


def _is_key_spec_of_a_topic(text: str) -> None:
    try:
        key_spec = KeySpec(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error
    if "topic" not in key_spec.parts:
        raise ValidationError(
            "Names no topic: events of two topics could then be the same. Try "
            f"'topic,{key_spec.text}'."
        )


_TOPIC = Schema.from_dict(
    {
        "key": kinds.String(validate=_is_key_spec_of_a_topic),
        "on_conflict": kinds.String(validate=OneOf(POLICIES)),
    }
)()


log = logging.getLogger(__name__)

PREFIX = "AGGREGATOR_"
_CONFIG = "config"
_OF_CLIENTS = ("token",)  # variables that clients read, on the same machine perhaps
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
    def policies(self) -> Policies:
        """The rules of every topic. Raises ValueError; never for what `load` has returned."""
        key, on_conflict = self.settings.key, self.settings.on_conflict
        usual = TopicPolicy.of(key, on_conflict)
        return Policies(
            usual,
            {
                topic: TopicPolicy.of(
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
    of_tables = table_problems(_STAGES, stages) + table_problems(_TOPICS, topics)
    if of_tables:
        stages, topics = {}, {}
    configuration = Configuration(settings, stages, topics, origins)
    problems += of_tables + disagreements(settings, topics)
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
            elif name in _OF_CLIENTS:
                continue
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
    shown = redact("", value)
    known = [*(each_.name for each_ in each()), _STAGES, _TOPICS]
    if name not in known:
        near = difflib.get_close_matches(name, known)
        why = "There is no such setting." + (f" Is {near[0]} meant?" if near else "")
    told = f"{name}: {shown!r} (from {origin}): {why}"
    if name == "port" and "://" in shown:
        told += (
            " Kubernetes sets this for a Service named aggregator: "
            "set enableServiceLinks: false in the pod."
        )
    return told
