"""What an operator has set, for all topics or for some: the key, and what to do on a conflict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from aggregator.core.identity import KeySpec


class OnConflict(Enum):
    """What the operator wants done with an event whose key is held by another content."""

    KEEP_FIRST = "keep-first"
    REJECT = "reject"
    QUARANTINE = "quarantine"


@dataclass(frozen=True)
class TopicPolicy:
    """The policy for the events of a topic."""

    key_spec: KeySpec
    cloud_key_spec: KeySpec
    on_conflict: OnConflict

    @classmethod
    def of(cls, key: str, on_conflict: str) -> "TopicPolicy":
        """The policy as settings spell it. Raises ValueError."""
        key_spec = KeySpec(key)
        return cls(key_spec, key_spec.with_source(), OnConflict(on_conflict))


class Policies:
    """The policy of every topic."""

    def __init__(
        self, default: TopicPolicy, by_topic: Mapping[str, TopicPolicy] | None = None
    ) -> None:
        self.default = default
        self.by_topic = dict(by_topic or {})

    def of(self, topic: str) -> TopicPolicy:
        """The policy of this topic."""
        return self.by_topic.get(topic, self.default)

    @cached_property
    def is_default(self) -> bool:
        """Whether the keys of plain events are made by the default key spec, on every topic."""
        return all(policy.key_spec.is_default for policy in (self.default, *self.by_topic.values()))

    @property
    def key_spec(self) -> str:
        """How all keys are made, in the one spelling that a store keeps and compares."""
        others = (
            f"{json.dumps(topic)}: {policy.key_spec.text}"
            for topic, policy in sorted(self.by_topic.items())
            if policy.key_spec.text != self.default.key_spec.text
        )
        return "; ".join((self.default.key_spec.text, *others))

    @cached_property
    def headers(self) -> frozenset[str]:
        """The headers, in lower case, that keys are made of."""
        every = (self.default, *self.by_topic.values())
        return frozenset().union(*(policy.key_spec.headers for policy in every))
