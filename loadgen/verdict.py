"""The verdict: whether what was sent and answered is what is stored and counted."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from aggregator.client import Stats, StoredEvent
from loadgen.answers import Answers
from loadgen.workload import Event, Key, Plan


class Readback:
    """Compares each event read back with the one sent; ignores those of other publishers."""

    def __init__(self, sent: Iterable[Event]) -> None:
        self._sent = {event.key: event for event in sent}
        self.seqs: dict[Key, int] = {}
        self.repeated: list[Key] = []
        self.changed: list[Key] = []

    @property
    def missing(self) -> list[Key]:
        """Those sent that were not read back."""
        return [key for key in self._sent if key not in self.seqs]

    def add(self, events: Iterable[StoredEvent]) -> int:
        """Compare these; return how many of them were sent by this run."""
        ours = [event for event in events if (event.topic, event.event_id) in self._sent]
        for event in ours:
            self._compare(self._sent[event.topic, event.event_id], event)
        return len(ours)

    def _compare(self, sent: Event, stored: StoredEvent) -> None:
        if sent.key in self.seqs:
            self.repeated.append(sent.key)
        self.seqs[sent.key] = stored.seq
        if not is_same(sent, stored):
            self.changed.append(sent.key)


def is_same(sent: Event, stored: StoredEvent) -> bool:
    """Whether it is stored as it was sent."""
    return (sent.source, sent.timestamp) == (stored.source, stored.timestamp) and (
        canonical(_encode(sent.payload)) == canonical(stored.payload)
    )


def canonical(payload: bytes | msgspec.Raw) -> bytes:
    """One text for each value. Values are compared as text because in Python True equals 1."""
    return _encode(_decode(payload))


def number(digits: str) -> Decimal | int:
    """An exact number, which a float is not; the same for 2.50 and 2.5, and for 2.00 and 2."""
    exact = Decimal(digits)
    return int(exact) if exact == exact.to_integral_value() else exact.normalize()


_decode = msgspec.json.Decoder(float_hook=number).decode
_encode = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


@dataclass(frozen=True)
class Growth:
    """How much the counters of the service grew during the run."""

    received: int
    unique: int
    duplicates: int

    @classmethod
    def between(cls, before: Stats, after: Stats) -> "Growth":
        """From one answer of `/stats` to a later one."""
        return cls(
            after.received_total - before.received_total,
            after.unique_processed - before.unique_processed,
            after.duplicate_dropped - before.duplicate_dropped,
        )


@dataclass(frozen=True)
class Verdict:
    """Good if there are no reasons against it."""

    reasons: tuple[str, ...]
    praise: str = ""

    @property
    def good(self) -> bool:
        """Whether everything matches."""
        return not self.reasons

    def __str__(self) -> str:
        return f"OK: {self.praise}" if self.good else f"FAILED: {'; '.join(self.reasons)}"


def judge(plan: Plan, answers: Answers, growth: Growth, readback: Readback) -> Verdict:
    """Compare everything."""
    reasons = (
        *wrong_answers(answers),
        *wrong_statistics(answers, growth),
        *wrong_events(answers, readback),
    )
    return Verdict(reasons, praise(plan, answers, growth))


def wrong_answers(answers: Answers) -> Iterator[str]:
    """Each fault of an answer, with how often it occurred."""
    for fault, times in answers.faults.items():
        yield f"{fault} ({times:,} times)" if times > 1 else fault


def wrong_statistics(answers: Answers, growth: Growth) -> Iterator[str]:
    """Where the counters do not agree with the answers.

    A try without an answer may have been counted or not, hence the ranges.
    """
    stored = answers.statuses["stored"]
    dropped = answers.statuses["duplicate"] + answers.statuses["conflict"]
    refused = answers.events - stored - dropped
    maybe_stored = len(answers.uncertain - answers.stored)
    wrong = [
        *outside("unique_processed", growth.unique, stored, maybe_stored),
        *outside("duplicate_dropped", growth.duplicates, dropped, answers.resent),
        *outside("received_total", growth.received, answers.events, answers.resent),
    ]
    if not wrong and growth.unique + growth.duplicates + refused != growth.received:
        wrong.append("what was received is not what was unique, dropped or refused")
    yield from wrong
    if wrong:
        yield "were other publishers active? then the statistics cannot match: run it again alone"


def outside(name: str, grew: int, least: int, leeway: int) -> Iterator[str]:
    """A complaint if the growth is not what it has to be."""
    if not least <= grew <= least + leeway:
        expected = f"{least:,}" + (f" to {least + leeway:,}" if leeway else "")
        yield f"{name} grew by {grew:,}, not by {expected}"


def wrong_events(answers: Answers, readback: Readback) -> Iterator[str]:
    """Events that were not read back as they were sent and answered."""
    moved = [key for key, seq in readback.seqs.items() if answers.seqs.get(key, seq) != seq]
    yield from some(readback.missing, "sent but not stored")
    yield from some(readback.repeated, "stored more than once")
    yield from some(readback.changed, "stored with another payload, source or timestamp")
    yield from some(moved, "stored under another seq than the one answered")


def some(keys: Collection[Key], trouble: str) -> Iterator[str]:
    """One complaint about all of these events, if there are any."""
    if keys:
        example = "/".join(next(iter(keys)))
        yield f"{len(keys):,} event{'s' * (len(keys) > 1)} {trouble}, such as {example}"


def praise(plan: Plan, answers: Answers, growth: Growth) -> str:
    """The verdict in words, if everything matches."""
    earlier = len(plan.unique) - growth.unique
    retried = growth.received - answers.events
    stored = f"{len(plan.unique):,} events stored once"
    dropped = f"{growth.duplicates:,} duplicates dropped"
    return ", ".join(
        (
            stored + (f" ({earlier:,} of them before this run)" if earlier else ""),
            dropped + (f" ({retried:,} of them from retries)" if retried else ""),
            "nothing lost",
        )
    )
