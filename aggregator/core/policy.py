"""What an operator has set for all topics or for some: the key, and what a conflict is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from aggregator.core.identity import KeySpec
from aggregator.event import OnConflict


@dataclass(frozen=True)
class TopicPolicy:
    """The rules for the events of a topic."""

    key_spec: KeySpec
    cloud_key_spec: KeySpec
    on_conflict: OnConflict

    @classmethod
    def of(cls, key: str, on_conflict: str) -> "TopicPolicy":
        """The rules as settings spell them. Raises ValueError."""
        key_spec = KeySpec(key)
        return cls(key_spec, key_spec.with_source(), OnConflict(on_conflict))


class Policies:
    """The rules of every topic."""

    def __init__(
        self, usual: TopicPolicy, by_topic: Mapping[str, TopicPolicy] | None = None
    ) -> None:
        self.usual = usual
        self.by_topic = dict(by_topic or {})

    def of(self, topic: str) -> TopicPolicy:
        """The rules of this topic."""
        return self.by_topic.get(topic, self.usual)

    @cached_property
    def is_usual(self) -> bool:
        """Whether the keys of plain events are made by the usual recipe, on every topic."""
        return all(policies.key_spec.is_usual for policies in (self.usual, *self.by_topic.values()))

    @property
    def key_spec(self) -> str:
        """How all keys are made, in the one spelling that a store keeps and compares."""
        others = (
            f"{json.dumps(topic)}: {policies.key_spec.text}"
            for topic, policies in sorted(self.by_topic.items())
            if policies.key_spec.text != self.usual.key_spec.text
        )
        return "; ".join((self.usual.key_spec.text, *others))

    @cached_property
    def headers(self) -> frozenset[str]:
        """The headers, in lower case, that keys are made of."""
        every = (self.usual, *self.by_topic.values())
        return frozenset().union(*(policies.key_spec.headers for policies in every))
