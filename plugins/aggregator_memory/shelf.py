"""What is kept, and what a transaction adds to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgspec import structs

from aggregator.event import Event
from aggregator.store import Counters, Redelivery
from aggregator_memory.history import Seen
from aggregator_memory.quarantine import Quarantine


@dataclass
class New:
    """What one transaction has done so far; nobody else sees it before the commit."""

    counters: Counters
    quarantine: Quarantine
    events: list[Event] = field(default_factory=list)
    seqs: dict[bytes, int] = field(default_factory=dict)  # by key
    redeliveries: list[Redelivery] = field(default_factory=list)
    topics: dict[str, Counters] = field(default_factory=dict)  # what is added to them

    def copy(self) -> "New":
        """The same things, apart from these."""
        return replace(
            self,
            events=self.events.copy(),
            seqs=self.seqs.copy(),
            redeliveries=self.redeliveries.copy(),
            topics=self.topics.copy(),
        )

    def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        """Add to the counters."""
        self.counters = plus(self.counters, counted)
        for topic, counts in by_topic.items():
            self.topics[topic] = plus(self.topics.get(topic, Counters()), counts)


@dataclass
class Shelf:
    """What is committed."""

    events: list[Event] = field(default_factory=list)  # in the order of seq, from 1
    seqs: dict[bytes, int] = field(default_factory=dict)  # by key
    names: dict[bytes, list[int]] = field(default_factory=dict)
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)  # first and last, by topic
    seen: dict[int, Seen] = field(default_factory=dict)  # by seq
    topics: dict[str, Counters] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    quarantine: Quarantine = field(default_factory=Quarantine)

    def add(self, new: New) -> None:
        """Take over what a transaction has done."""
        for seq, event in enumerate(new.events, len(self.events) + 1):
            self._index(seq, event)
        self.events += new.events
        self.seqs |= new.seqs
        for redelivery in new.redeliveries:
            self.seen.setdefault(redelivery.seq, Seen()).add(redelivery)
        for topic, counts in new.topics.items():
            self.topics[topic] = plus(self.topics.get(topic, Counters()), counts)
        self.counters = new.counters
        self.quarantine = new.quarantine

    def _index(self, seq: int, event: Event) -> None:
        first, _ = self.ends.get(event.topic, (seq, seq))
        self.ends[event.topic] = (first, seq)
        if event.name:
            self.names.setdefault(event.name, []).append(seq)


def plus(one: Counters, other: Counters) -> Counters:
    """The sum of the two."""
    pairs = zip(structs.astuple(one), structs.astuple(other), strict=True)
    return Counters(*(first + second for first, second in pairs))
