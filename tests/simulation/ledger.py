"""The model: what was sent and told, and what a store may hold then."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from msgspec import structs

from aggregator.event import Event, Pending, Submission
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Refused, Stored
from aggregator.store import Quarantined, QuarantineReason
from aggregator_memory.store import Committed, EventHistory

ACTS = ("", "", "", "", "", "", "filter", "poison")  # what the stage does to the event
TRIES = 12  # how often an event may be counted at most whose commits are told to have failed


class Sent(NamedTuple):
    """An event as JSON, and as the model knows it."""

    topic: str
    event_id: str
    k: str
    n: int
    act: str = ""
    source: str = ""
    """Of a CloudEvent."""
    is_spelled_otherwise: bool = False
    is_bad: bool = False

    @classmethod
    def drawn(cls, random: Random) -> "Sent":
        """Some keys come again and again; topics and ids run into each other."""
        event_id = f"{random.choice(('', 'b'))}{random.randrange(random.choice((3, 100_000)))}"
        topic, source = random.choice(("a", "ab")), random.choice(("", "", "", "x", "y"))
        k, n, act = f"{random.randrange(4)}", random.choice((1, 1, 1, 2)), random.choice(ACTS)
        is_bad = random.randrange(15) == 0
        return cls(topic, event_id, k, n, act, source, random.random() < 0.3, is_bad)

    @property
    def body(self) -> str:
        payload = json.dumps({"k": self.k, "n": self.n, "act": self.act})
        payload = payload.replace('"n": ', '"n" :  ') if self.is_spelled_otherwise else payload
        if self.source:
            names = {"specversion": "1.0", "id": self.event_id, "source": self.source}
            own = {**names, "type": "" if self.is_bad else self.topic, "data": 0}
        else:
            time = "2026-01-31T12:00:00Z"
            own = {"event_id": self.event_id, "topic": "" if self.is_bad else self.topic}
            own |= {"timestamp": time, "source": "s", "payload": 0}
        return json.dumps(own)[:-2] + payload + "}"

    @classmethod
    def read(cls, body: bytes) -> "Sent":
        """The event that was spelled like this, by `body` or by the service."""
        own = json.loads(body)
        topic = own.get("topic") or own.get("type") or ""
        event_id = own.get("event_id") or own.get("id")
        source = own["source"] if "specversion" in own else ""
        payload = own["data" if source else "payload"]
        return cls(topic, event_id, *payload.values(), source, is_bad=not topic)

    def key(self, key_spec: str) -> tuple[str, ...]:
        """What makes two events the same."""
        return self.topic, self.k if "/k" in key_spec else self.event_id, self.source

    @property
    def content(self) -> tuple[Any, ...]:
        """What two events of one key are compared by."""
        return self.k, self.n, self.act


def must(is_true: object, what: str, *about: object) -> None:
    if not is_true:
        raise AssertionError(" ".join((what, *map(repr, about))))


@dataclass
class Ledger:
    """Everything that was sent, told and seen in one history."""

    disk: Committed
    key_spec: str
    on_conflict: str
    sent: dict[tuple[str, int], Sent] = field(default_factory=dict)
    """By the id of the submission and the place in it."""
    told_stored: set[int] = field(default_factory=set)
    nothing: set[str] = field(default_factory=set)
    """Submissions that were told that nothing of them is stored."""
    under_way: list[Submission] = field(default_factory=list)
    """Those of this life for which nobody waits."""
    never_awaited: set[str] = field(default_factory=set)
    early: set[str] = field(default_factory=set)
    """Those answered 202."""
    excused: set[str] = field(default_factory=set)
    """Those of them that a kill has cut off, or that the log has told to be lost."""
    kept: dict[int, Quarantined] = field(default_factory=dict)
    """What was in quarantine after a commit."""
    ever_kept: list[Quarantined] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    sure: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    effects: Counter[tuple[str, int]] = field(default_factory=Counter)

    def send(self, submission: Submission, events: list[Sent]) -> None:
        self.sent |= {(submission.id, place): one for place, one in enumerate(events)}
        if submission.respond_async:
            self.under_way.append(submission)
            self.never_awaited.add(submission.id)

    def answered(self, submission: Submission) -> None:
        """It was told what became of each event."""
        for event in submission.events:
            self._check(event, submission)
            assert event.outcome
            self.sure[event.outcome.status] += 1
        if submission.is_strict and any(map(submission.refuses, submission.events)):
            self.nothing.add(submission.id)

    def _check(self, event: Event, submission: Submission) -> None:
        sent = self.sent[submission.id, event.index]
        match event.outcome:
            case Invalid():
                must(sent.is_bad, "a good event was called invalid", sent)
            case Filtered():
                must(sent.act == "filter" and not sent.is_bad, "it was filtered", sent)
            case Refused():
                must(submission.is_strict, "refused, and not strict", sent)
                others = map(submission.refuses, submission.events)
                must(any(others), "refused for nothing", sent)
            case Conflict(seq=None):
                must(submission.is_strict, "a conflict with nothing", sent)
            case Stored(seq=seq) | Duplicate(seq=seq) | Conflict(seq=int(seq)) as outcome:
                must(seq <= len(self.disk.events), "told before it was committed", sent, outcome)
                stored = self.disk.events[seq - 1]
                holder = Sent.read(stored.as_sent())
                same_key = holder.key(self.key_spec) == sent.key(self.key_spec)
                must(same_key, "another key", sent, outcome, holder)
                is_same = holder.content == sent.content
                must(is_same != isinstance(outcome, Conflict), "content", sent, outcome, holder)
                if isinstance(outcome, Stored):
                    place = stored.submission, stored.index
                    must(place == (submission.id, event.index), "it is another's", sent, outcome)
                    must(seq not in self.told_stored, "told twice to be stored", sent, outcome)
                    self.told_stored.add(seq)
                    must(self.effects[place] == 1, "stored, and its effect has not come", sent)

    def settle(self, *, is_honest: bool) -> None:
        """Nothing is under way any more: count what became of that for which nobody waited."""
        for submission in self.under_way:
            verdicts = [event.verdict for event in submission.events]
            if submission.id in self.nothing or (is_honest and Pending.GOING in verdicts):
                continue  # it has failed
            if is_honest and not all(isinstance(one, Invalid | Filtered) for one in verdicts):
                self.sure.update(one.status for one in verdicts if isinstance(one, Outcome))
            else:
                self.unsure += TRIES * len(verdicts)
        self.under_way.clear()

    def note_quarantine(self, kept: Sequence[Quarantined]) -> None:
        """After a commit: what was put into quarantine, and what is there now."""
        self.ever_kept += kept
        self.kept |= self.disk.quarantine.entries

    def check(self) -> None:
        """Hold the store against all this, once nothing is under way."""
        events = [Sent.read(event.as_sent()) for event in self.disk.events]
        keys = [event.key(self.key_spec) for event in events]
        must(len(set(keys)) == len(keys), "a key is stored twice")
        for event, stored in zip(events, self.disk.events, strict=True):
            sent = self.sent[stored.submission, stored.index]
            is_as_sent = (event.key(""), event.content) == (sent.key(""), sent.content)
            must(is_as_sent, "not as it was sent", event, sent)
            must(sent.act == "" and not sent.is_bad, "no stage let it pass", sent)
            must(stored.submission not in self.nothing, "nothing of it is stored", sent)
        must(self.nothing.isdisjoint(one for one, _ in self.effects), "effects of what failed")
        must(max(self.effects.values(), default=1) == 1, "an effect came twice")
        self._check_early(set(keys))
        self._check_quarantine(set(keys))
        self._check_counters()

    def _check_early(self, keys: set[tuple[str, ...]]) -> None:
        """What was answered 202 is stored, filtered, in quarantine, or told to be lost."""
        ever = Counter((one.submission, one.event_id) for one in self.ever_kept)
        for (name, _), sent in self.sent.items():
            if name in self.early - self.excused:
                is_there = sent.key(self.key_spec) in keys and not sent.is_bad
                is_out = sent.act == "filter" and not sent.is_bad
                is_kept = ever[name, sent.event_id]
                must(is_there or is_kept or is_out, "answered 202 and lost", sent)

    def _check_quarantine(self, keys: set[tuple[str, ...]]) -> None:
        """What has left quarantine was stored, filtered, dropped or evicted."""
        gone = [one for number, one in self.kept.items() if number not in self.disk.quarantine.entries]
        unexplained = 0
        for entry in gone:
            sent = Sent.read(entry.body)
            is_out = sent.act == "filter" or sent.key(self.key_spec) in keys
            unexplained += not (is_out or entry.id in self.dropped)
        must(unexplained <= self.disk.quarantine.evicted, "left quarantine for nothing", gone)

    def _check_counters(self) -> None:
        """The numbers add up: with the events, with what was told, and by topic."""
        counted, stored = self.disk.counters, self.disk.events
        must(counted.stored == len(stored), "stored", counted, len(stored))
        must(counted.topics == len({event.topic for event in stored}), "topics", counted)
        quarantine = self.disk.quarantine
        must(counted.quarantined == len(quarantine.entries), "quarantined", counted)
        must(counted.evicted == quarantine.evicted, "evicted", counted)
        again: Counter[tuple[str, str]] = Counter(self._came_again())
        for status in ("duplicate", "conflict"):
            number = sum(many for (_, one), many in again.items() if one == status)
            total = getattr(counted, status)
            must(number == total or status == "conflict" and number < total, status, number, total)
        for topic, counts in self.disk.topics.items():
            must(counts.stored == sum(one.topic == topic for one in stored), "by topic", topic)
            told = again[topic, "duplicate"], again[topic, "conflict"]
            must((counts.duplicate, counts.conflict) == told, "by topic", topic, counts, told)
        failed = [
            one
            for one in self.ever_kept
            if one.submission in self.never_awaited
            and (one.reason is not QuarantineReason.CONFLICT or self.on_conflict == "reject")
        ]
        must(counted.failed_async == len(failed), "failed_async", counted, failed)
        for status in ("stored", "duplicate", "conflict", "invalid", "filtered", "refused"):
            number, sure = structs.asdict(counted)[status], self.sure[status]
            must(sure <= number <= sure + self.unsure, status, number, sure, self.unsure)

    def _came_again(self) -> Iterator[tuple[str, str]]:
        for seq, history in self.disk.histories.items():
            topic = self.disk.events[seq - 1].topic
            assert isinstance(history, EventHistory)
            for seen in history.redeliveries.values():
                yield from [(topic, "duplicate")] * seen.duplicates
                yield from [(topic, "conflict")] * seen.conflicts
