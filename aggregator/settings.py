"""Every setting, once: name, type, default, unit and help.

The docs and `--help` are made of this.
"""

import re
from dataclasses import Field, dataclass, field, fields
from typing import Any

from marshmallow import fields as kinds
from marshmallow.validate import Length, OneOf, Range

from aggregator.core.identity import RECIPE
from aggregator.event import OnConflict

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


def _whole(default: int, unit: str, help_: str, least: int = 1, most: int | None = None) -> Any:
    kind = _Whole(strict=True, validate=Range(least, most))
    return field(default=default, metadata={"kind": kind, "unit": unit, "help": help_})


def _positive(default: float, unit: str, help_: str, most: float | None = None) -> Any:
    kind = kinds.Float(validate=Range(0, most, min_inclusive=False))
    return field(default=default, metadata={"kind": kind, "unit": unit, "help": help_})


def _seconds(default: float, help_: str) -> Any:
    return _positive(default, "seconds", help_)


@dataclass(frozen=True)
class Settings:
    """What the service runs with. Read once, at the start, and handed on."""

    host: str = _text("127.0.0.1", "Address to listen on.")
    port: int = _whole(8080, "", "Port to listen on; 0 picks a free one.", least=0, most=65535)
    store: str = _text("sqlite:///data/aggregator.db", "URL of the store.")
    queue: str = _text("memory:", "URL of the queue.")
    pipeline: str = _text("validate | dedup persist", "Stages in order; the bar is the queue.")
    key: str = _text(RECIPE, "What makes two events the same: parts of the key, with commas.")
    on_conflict: str = _text(
        "keep-first", "What to do with another content under a held key.", OneOf(POLICIES)
    )
    on_invalid: str = _text(
        "refuse", "What to do with invalid events.", OneOf(["refuse", "quarantine"])
    )
    quarantine_bytes: int = _whole(67_108_864, "bytes", "Most bytes kept in quarantine.")
    quarantine_days: float = _positive(
        30.0, "days", "How long events stay in quarantine.", most=36_500
    )
    indexed: str = _text(
        "", "JSON pointers into payloads that events are found by, with commas.", least=0
    )
    max_events: int = _whole(10_000, "events", "Most events in one request.")
    max_event: int = _whole(1_048_576, "bytes", "Longest event.")
    max_body: int = _whole(16_777_216, "bytes", "Longest body of a request, decompressed.")
    body_timeout: float = _seconds(30.0, "How long a request's body may take to arrive.")
    queue_events: int = _whole(50_000, "events", "Most events accepted and not yet committed.")
    queue_bytes: int = _whole(67_108_864, "bytes", "Most bytes of requests under way.")
    answer_bytes: int = _whole(67_108_864, "bytes", "Most bytes of answers not read yet.")
    answer_timeout: float = _seconds(30.0, "How long a client may take to read an answer.")
    streams: int = _whole(100, "readers", "Most readers who follow the stream at once.")
    heartbeat: float = _seconds(15.0, "How long a stream may be silent.")
    cors_origins: str = _text(
        "", "Origins whose pages may use the service, with commas, or *.", least=0
    )
    batch_events: int = _whole(10_000, "events", "Events after which a batch is full.")
    stage_timeout: float = _seconds(5.0, "How long one call of a stage may take.")
    log_level: str = _text(
        "info", "Least severe messages to log.", OneOf(["debug", "info", "warning", "error"])
    )


def each() -> tuple[Field[Any], ...]:
    """The settings in order; kind, unit and help stand in a field's metadata."""
    return fields(Settings)


def listed(text: str) -> list[str]:
    """The parts of a setting that is written with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
