"""The model: what was sent and told, and what a store may hold then."""

import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from msgspec import structs

from aggregator.event import Event, Pending, Submission
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Refused, Stored
from aggregator_memory.store import Committed

TRIES = 12  # how often an event may be counted at most whose commits are told to have failed
ACTS = ("", "", "", "", "", "", "filter", "poison")  # what the stage does with the event


def must(is_true: object, what: str, *about: object) -> None:
    if not is_true:
        raise AssertionError(" ".join((what, *map(repr, about))))


class Sent(NamedTuple):
    """An event as the model knows it."""

    topic: str
    event_id: str
    k: str
    n: int
    act: str = ""
    source: str = ""  # of a CloudEvent
    is_bad: bool = False
    is_respelled: bool = False

    @classmethod
    def drawn(cls, random: Random) -> "Sent":
        """Some keys come again and again; topics and ids run into each other."""
        event_id = random.choice(("", "b")) + str(random.randrange(random.choice((3, 10**5))))
        topic, source = random.choice(("a", "ab")), random.choice(("", "", "", "x", "y"))
        content = str(random.randrange(4)), random.choice((1, 1, 1, 2)), random.choice(ACTS)
        return cls(topic, event_id, *content, source, random.random() < 0.07)

    @property
    def body(self) -> str:
        topic = "" if self.is_bad else self.topic
        payload = {"k": self.k, "n": self.n, "act": self.act}
        event = {"topic": topic, "event_id": self.event_id, "source": "s", "payload": payload}
        event["timestamp"] = "2026-01-31T12:00:00Z"
        if self.source:
            event = {"specversion": "1.0", "type": topic, "id": self.event_id, "data": payload}
            event["source"] = self.source
        return json.dumps(event).replace('"n": ', '"n" :  ' if self.is_respelled else '"n": ')

    @classmethod
    def read(cls, body: bytes) -> "Sent":
        """The event that was spelled like this, by us or by the service."""
        event = json.loads(body)
        topic, source = event.get("topic") or event.get("type") or "", event["source"]
        payload, source = (event["data"], source) if "type" in event else (event["payload"], "")
        event_id = event.get("event_id") or event.get("id")
        return cls(topic, event_id, *payload.values(), source, not topic)

    def key(self, key_spec: str) -> tuple[str, ...]:
        return self.topic, self.k if "/k" in key_spec else self.event_id, self.source

    @property
    def content(self) -> tuple[Any, ...]:
        return self.k, self.n, self.act


@dataclass
class Ledger:
    """Everything that was sent and told in one history."""

    disk: Committed
    key_spec: str
    sent: dict[tuple[str, int], Sent] = field(default_factory=dict)  # by submission and place
    nothing: set[str] = field(default_factory=set)  # submissions of which nothing is stored
    unawaited: list[Submission] = field(default_factory=list)  # of this life, to be answered 202
    early: set[str] = field(default_factory=set)  # those that were answered 202
    excused: set[str] = field(default_factory=set)  # cut off by a kill, or told to be lost
    kept: dict[int, Sent] = field(default_factory=dict)  # seen in quarantine
    kept_of: set[tuple[str, str]] = field(default_factory=set)  # by submission and event_id
    sure: Counter[str] = field(default_factory=Counter)
    unsure: int = 0  # events of which nobody knows whether they were counted
    effects: Counter[tuple[str, int]] = field(default_factory=Counter)

    def send(self, submission: Submission, sent: list[Sent]) -> None:
        self.sent |= {(submission.id, place): one for place, one in enumerate(sent)}
        if submission.respond_async:
            self.unawaited.append(submission)

    def told(self, submission: Submission, told: str) -> None:
        """It was answered, has failed, was refused, or nothing is known of it."""
        if told in ("failed", "refused"):
            self.nothing.add(submission.id)
        elif submission.respond_async:
            self.early |= {submission.id} if told == "answered" else set()
        elif told == "unknown":
            self.unsure += len(submission.events)
        else:
            for event in submission.events:
                self._check(event, submission)
                self.sure[event.outcome.status] += 1  # type: ignore[union-attr]
            if submission.is_strict and any(map(submission.refuses, submission.events)):
                self.nothing.add(submission.id)

    def _check(self, event: Event, submission: Submission) -> None:
        place = submission.id, event.index
        sent, outcome = self.sent[place], event.outcome
        match outcome:
            case Invalid():
                must(sent.is_bad, "a good event was called invalid", sent)
            case Filtered():
                must(sent.act == "filter" and not sent.is_bad, "it was filtered", sent)
            case Refused() | Conflict(seq=None):
                must(submission.is_strict, "refused, and not strict", sent)
                must(any(map(submission.refuses, submission.events)), "refused for nothing", sent)
            case Stored(seq=seq) | Duplicate(seq=seq) | Conflict(seq=int(seq)):
                must(seq <= len(self.disk.events), "told before it was committed", sent, outcome)
                stored = self.disk.events[seq - 1]
                holder = Sent.read(stored.as_sent())
                is_same_key = holder.key(self.key_spec) == sent.key(self.key_spec)
                must(is_same_key, "another key", sent, outcome, holder)
                is_same = holder.content == sent.content
                must(is_same != isinstance(outcome, Conflict), "content", sent, outcome, holder)
                if isinstance(outcome, Stored):
                    must((stored.submission, stored.index) == place, "another's", sent, outcome)
                    must(self.effects[place] == 1, "stored, and without its effect", sent)
            case _:
                must(False, "answered without an outcome", sent)

    def settle(self, *, is_honest: bool) -> None:
        """Nothing is under way any more: count what became of that for which nobody waited."""
        for submission in self.unawaited:
            verdicts = [event.verdict for event in submission.events]
            is_by_intake = all(isinstance(one, Invalid | Filtered) for one in verdicts)
            if submission.id in self.nothing or (is_honest and Pending.GOING in verdicts):
                continue  # it has failed
            if is_honest and not is_by_intake:
                self.sure.update(one.status for one in verdicts if isinstance(one, Outcome))
            else:
                self.unsure += TRIES * len(verdicts)
        self.unawaited.clear()

    def note_quarantine(self) -> None:
        for number, entry in self.disk.quarantine.entries.items():
            self.kept[number] = Sent.read(entry.body)
            self.kept_of.add((entry.submission, entry.event_id))

    def check(self) -> None:
        """Hold the store against all this, once nothing is under way."""
        events = [Sent.read(event.as_sent()) for event in self.disk.events]
        keys = {event.key(self.key_spec) for event in events}
        must(len(keys) == len(events), "a key is stored twice")
        for event, stored in zip(events, self.disk.events, strict=True):
            sent = self.sent[stored.submission, stored.index]
            is_as_sent = (event.key(""), event.content) == (sent.key(""), sent.content)
            must(is_as_sent and not (sent.act or sent.is_bad), "not as it was sent", event, sent)
            must(stored.submission not in self.nothing, "nothing of it is stored", sent)
        must(self.nothing.isdisjoint(one for one, _ in self.effects), "effects of what failed")
        must(max(self.effects.values(), default=1) == 1, "an effect came twice")

        def is_well(sent: Sent) -> bool:
            return not sent.is_bad and (sent.act == "filter" or sent.key(self.key_spec) in keys)

        for (name, _), sent in self.sent.items():
            if name in self.early - self.excused and (name, sent.event_id) not in self.kept_of:
                must(is_well(sent), "answered 202 and lost", sent)
        gone = self.kept.keys() - self.disk.quarantine.entries.keys()
        lost = [self.kept[number] for number in sorted(gone) if not is_well(self.kept[number])]
        must(not lost, "left quarantine for nothing", lost)
        self._check_counters()

    def _check_counters(self) -> None:
        """The numbers add up: with the events, by topic, and with what was told."""
        counted = structs.asdict(self.disk.counters)
        topics = Counter(event.topic for event in self.disk.events)
        must(
            (counted["stored"], counted["topics"]) == (topics.total(), len(topics)), "sum", counted
        )
        must(counted["quarantined"] == len(self.disk.quarantine.entries), "quarantined", counted)
        again: Counter[tuple[str, str]] = Counter()
        for seq, history in self.disk.histories.items():
            for seen in history.redeliveries.values():
                again[self.disk.events[seq - 1].topic, "duplicate"] += seen.duplicates
                again[self.disk.events[seq - 1].topic, "conflict"] += seen.conflicts
        for topic, counts in self.disk.topics.items():
            told = topics[topic], again[topic, "duplicate"], again[topic, "conflict"]
            must((counts.stored, counts.duplicate, counts.conflict) == told, "by topic", told)
        duplicates = sum(many for (_, status), many in again.items() if status == "duplicate")
        must(counted["duplicate"] == duplicates, "duplicates", counted, duplicates)
        for status in ("stored", "duplicate", "conflict", "invalid", "filtered", "refused"):
            least, most = self.sure[status], self.sure[status] + self.unsure
            must(least <= counted[status] <= most, status, counted, least, most)
