"""What an operator has set for all topics or for some: the key, and what a conflict is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from aggregator.core.identity import Recipe
from aggregator.event import OnConflict


@dataclass(frozen=True)
class TopicRules:
    """The rules for the events of a topic."""

    recipe: Recipe
    cloud_recipe: Recipe
    on_conflict: OnConflict

    @classmethod
    def of(cls, key: str, on_conflict: str) -> "TopicRules":
        """The rules as settings spell them. Raises ValueError."""
        recipe = Recipe(key)
        return cls(recipe, recipe.with_source(), OnConflict(on_conflict))


class Rules:
    """The rules of every topic."""

    def __init__(self, usual: TopicRules, by_topic: Mapping[str, TopicRules] | None = None) -> None:
        self.usual = usual
        self.by_topic = dict(by_topic or {})

    def of(self, topic: str) -> TopicRules:
        """The rules of this topic."""
        return self.by_topic.get(topic, self.usual)

    @cached_property
    def is_usual(self) -> bool:
        """Whether the keys of plain events are made by the usual recipe, on every topic."""
        return all(rules.recipe.is_usual for rules in (self.usual, *self.by_topic.values()))

    @property
    def recipe(self) -> str:
        """How all keys are made, in the one spelling that a store keeps and compares."""
        others = (
            f"{json.dumps(topic)}: {rules.recipe.text}"
            for topic, rules in sorted(self.by_topic.items())
            if rules.recipe.text != self.usual.recipe.text
        )
        return "; ".join((self.usual.recipe.text, *others))

    @cached_property
    def headers(self) -> frozenset[str]:
        """The headers, in lower case, that keys are made of."""
        every = (self.usual, *self.by_topic.values())
        return frozenset().union(*(rules.recipe.headers for rules in every))
