"""Whether both halves of the books match: what was sent and answered, and what is stored."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from aggregator.client import Stats, StoredEvent
from loadgen.answers import Tally
from loadgen.workload import Event, Key, Plan


class Readback:
    """Compares each event read with the one sent; passes over those of other publishers."""

    def __init__(self, sent: Iterable[Event]) -> None:
        self._sent = {event.key: event for event in sent}
        self.seqs: dict[Key, int] = {}
        self.repeated: list[Key] = []
        self.changed: list[Key] = []

    @property
    def missing(self) -> list[Key]:
        return [key for key in self._sent if key not in self.seqs]

    def add(self, events: Iterable[StoredEvent]) -> int:
        """How many of those sent these are."""
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
    return (sent.source, sent.timestamp) == (stored.source, stored.timestamp) and (
        canonical(_encode(sent.payload)) == canonical(stored.payload)
    )


def canonical(payload: bytes | msgspec.Raw) -> bytes:
    """One text for one value. As text, because Python holds True for equal to 1."""
    return _encode(_decode(payload))


def number(digits: str) -> Decimal | int:
    """Exact, which a float is not; and the same for 2.50 and 2.5, for 2.00 and 2."""
    exact = Decimal(digits)
    return int(exact) if exact == exact.to_integral_value() else exact.normalize()


_decode = msgspec.json.Decoder(float_hook=number).decode
_encode = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


@dataclass(frozen=True)
class Growth:
    """By how much the service's statistics changed while the run went on."""

    received: int
    unique: int
    duplicates: int

    @classmethod
    def between(cls, before: Stats, after: Stats) -> "Growth":
        return cls(
            after.received_total - before.received_total,
            after.unique_processed - before.unique_processed,
            after.duplicate_dropped - before.duplicate_dropped,
        )


@dataclass(frozen=True)
class Verdict:
    """Good when nothing speaks against it."""

    reasons: tuple[str, ...]
    praise: str = ""

    @property
    def good(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        return f"OK: {self.praise}" if self.good else f"FAILED: {'; '.join(self.reasons)}"


def judge(plan: Plan, tally: Tally, growth: Growth, readback: Readback) -> Verdict:
    reasons = (
        *wrong_answers(tally),
        *wrong_statistics(tally, growth),
        *wrong_events(tally, readback),
    )
    return Verdict(reasons, praise(plan, tally, growth))


def wrong_answers(tally: Tally) -> Iterator[str]:
    for fault, times in tally.faults.items():
        yield f"{fault} ({times:,} times)" if times > 1 else fault


def wrong_statistics(tally: Tally, growth: Growth) -> Iterator[str]:
    """A try without an answer may have been counted or not: hence ranges, empty without one."""
    stored = tally.statuses["stored"]
    dropped = tally.statuses["duplicate"] + tally.statuses["conflict"]
    refused = tally.answered - stored - dropped
    maybe_stored = len(tally.unsure - tally.stored)
    wrong = [
        *outside("unique_processed", growth.unique, stored, maybe_stored),
        *outside("duplicate_dropped", growth.duplicates, dropped, tally.resent),
        *outside("received_total", growth.received, tally.answered, tally.resent),
    ]
    if not wrong and growth.unique + growth.duplicates + refused != growth.received:
        wrong.append("what was received is not what was unique, dropped or refused")
    yield from wrong
    if wrong:
        yield "were other publishers active? then the statistics cannot match: run it again alone"


def outside(name: str, grew: int, least: int, leeway: int) -> Iterator[str]:
    if not least <= grew <= least + leeway:
        expected = f"{least:,}" + (f" to {least + leeway:,}" if leeway else "")
        yield f"{name} grew by {grew:,}, not by {expected}"


def wrong_events(tally: Tally, readback: Readback) -> Iterator[str]:
    moved = [key for key, seq in readback.seqs.items() if tally.seqs.get(key, seq) != seq]
    yield from some(readback.missing, "sent but not stored")
    yield from some(readback.repeated, "stored more than once")
    yield from some(readback.changed, "stored with another payload, source or timestamp")
    yield from some(moved, "stored under another seq than the one answered")


def some(keys: Collection[Key], trouble: str) -> Iterator[str]:
    if keys:
        example = "/".join(next(iter(keys)))
        yield f"{len(keys):,} event{'s' * (len(keys) > 1)} {trouble}, such as {example}"


def praise(plan: Plan, tally: Tally, growth: Growth) -> str:
    earlier = len(plan.unique) - growth.unique
    retried = growth.received - tally.answered
    stored = f"{len(plan.unique):,} events stored once"
    dropped = f"{growth.duplicates:,} duplicates dropped"
    return ", ".join(
        (
            stored + (f" ({earlier:,} of them before this run)" if earlier else ""),
            dropped + (f" ({retried:,} of them from retries)" if retried else ""),
            "nothing lost",
        )
    )
