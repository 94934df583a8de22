"""What is wrong with settings that are right by themselves, but not together."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError
from marshmallow import fields as kinds
from marshmallow.validate import OneOf

from aggregator.core import json_pointer
from aggregator.core.identity import Recipe
from aggregator.settings import POLICIES, Settings, listed

_ORIGIN = re.compile(r"https?://[^\s/?#@*]+", re.IGNORECASE)


def problems(settings: Settings, topics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Everything that is wrong with them, in words that name each."""
    return _rule_problems(settings, topics) + _disagreements(settings) + _origin_problems(settings)


def _disagreements(settings: Settings) -> list[str]:
    found = []
    for smaller, larger in (
        ("max_event", "max_body"),
        ("max_body", "queue_bytes"),
        ("max_events", "queue_events"),
    ):
        low, high = getattr(settings, smaller), getattr(settings, larger)
        if low > high:
            found.append(f"{smaller}: {low} is more than {larger} allows ({high})")
    return found


def _origin_problems(settings: Settings) -> list[str]:
    return [
        f"cors_origins: {origin!r} is no origin: one is written https://example.org, or * for all"
        for origin in listed(settings.cors_origins)
        if origin != "*" and not _ORIGIN.fullmatch(origin)
    ]


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
        ("key", Recipe, settings.key),
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


def _is_recipe_of_a_topic(text: str) -> None:
    try:
        recipe = Recipe(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error
    if "topic" not in recipe.parts:
        raise ValidationError(
            "Names no topic: events of two topics could then be the same. Try "
            f"'topic,{recipe.text}'."
        )


_TOPIC = Schema.from_dict(
    {
        "key": kinds.String(validate=_is_recipe_of_a_topic),
        "on_conflict": kinds.String(validate=OneOf(POLICIES)),
    }
)()
