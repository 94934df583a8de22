"""What is recorded of a batch beside its events, in the transaction that stores them.

What came again, what goes into quarantine or leaves it, and the counters.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from aggregator.core import timestamp
from aggregator.core.fault_log import in_a_line
from aggregator.core.policy import OnConflict
from aggregator.errors import AggregatorError
from aggregator.event import Event, Submission
from aggregator.outcome import Conflict, Duplicate, Fault, Filtered, Invalid, Stored
from aggregator.pipeline.abilities import as_history, as_quarantine
from aggregator.pipeline.maintenance import QuarantineLimits
from aggregator.store import (
    ConflictingContent,
    Counters,
    KeepsHistory,
    KeepsQuarantine,
    Quarantined,
    QuarantineReason,
    Redelivery,
    Store,
    StoreTransaction,
)

log = logging.getLogger(__name__)

_LONGEST_WHY = 500  # bytes
_SETTLED = (Stored, Duplicate, Filtered)
_NOT_KEPT = (Stored, Duplicate)  # whatever the settings: they are gone through all at once
Failed = Sequence[tuple[Submission, AggregatorError]]


@dataclass
class _Entries:
    """What is going to be recorded, as it is gathered."""

    redeliveries: list[Redelivery] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    stored_on: list[str] = field(default_factory=list)  # the topic of each event that is stored
    duplicates_on: list[str] = field(default_factory=list)  # of each duplicate
    conflicts_on: list[str] = field(default_factory=list)  # of each conflict with a stored event
    counted: Counter[str] = field(default_factory=Counter)  # of what became of the others

    def totals(self) -> tuple[Counters, dict[str, Counters]]:
        """What is to be counted, in all and by topic."""
        self.counted["stored"] += len(self.stored_on)
        self.counted["duplicate"] += len(self.duplicates_on)
        on = map(Counter, (self.stored_on, self.duplicates_on, self.conflicts_on))
        stored, duplicates, conflicts = (counted.get for counted in on)
        by_topic = {
            topic: Counters(stored(topic, 0), duplicates(topic, 0), conflicts(topic, 0))
            for topic in {*self.stored_on, *self.duplicates_on, *self.conflicts_on}
        }
        return Counters(**self.counted), by_topic


class BatchRecorder:
    """Records what became of a batch, as far as the store can keep it.

    `keeps_invalid` says whether invalid events are kept in quarantine. What fails after its
    publisher was answered 202 is kept in any case.
    """

    def __init__(self, store: Store, keeps_invalid: bool, limits: QuarantineLimits) -> None:
        self._keeps_history = isinstance(store, KeepsHistory)
        self._keeps_quarantine = isinstance(store, KeepsQuarantine)
        self._keeps_invalid = keeps_invalid
        self._limits = limits

    async def record(
        self, settled: Sequence[Submission], tx: StoreTransaction, failed: Failed = ()
    ) -> Counters:
        """Record what became of these submissions; how many of their events ended in which way.

        Of those that failed only those answered 202 are recorded: in quarantine, if the store has
        one, and in `failed_async`.
        """
        entries = _Entries()
        for submission in settled:
            self._note(submission, entries)
        for submission, fault in failed:
            if submission.respond_async:
                _note_failed(submission, fault, entries)
        if entries.redeliveries and self._keeps_history:
            await as_history(tx).record(entries.redeliveries)
        if entries.dropped and self._keeps_quarantine:
            await as_quarantine(tx).drop(entries.dropped)
        if entries.quarantined and self._keeps_quarantine:
            quarantine = as_quarantine(tx)
            await quarantine.quarantine(entries.quarantined)
            await self._limits.evict(quarantine, len(entries.quarantined))
        counted, by_topic = entries.totals()
        await tx.count(counted, by_topic)
        return counted

    def _note(self, submission: Submission, entries: _Entries) -> None:
        stored = [event.topic for event in submission.events if type(event.verdict) is Stored]
        entries.stored_on += stored
        entries.dropped += submission.dropped
        if submission.released:
            entries.dropped += _no_longer_needed(submission)
        if len(stored) < len(submission.events):
            duplicates = _note_duplicates(submission, entries)
            if len(stored) + duplicates < len(submission.events):
                self._note_others(submission, entries)

    def _note_others(self, submission: Submission, entries: _Entries) -> None:
        """What became of the events that are neither stored nor duplicates."""
        others = [event for event in submission.events if type(event.verdict) not in _NOT_KEPT]
        for event in others:
            assert event.outcome
            entries.counted[event.outcome.status] += 1
            if isinstance(event.outcome, Conflict):
                _note_conflict(event, event.outcome, entries)
        if submission.released:
            return
        kept = [event for event in others if self._is_kept(event, submission)]
        entries.quarantined += (_quarantined(one, submission, *_reason(one)) for one in kept)
        if submission.respond_async and (failed := [event for event in kept if event.is_refused]):
            entries.counted["failed_async"] += len(failed)
            _warn(submission, len(failed), _reason(failed[0])[1][0].detail)

    def _is_kept(self, event: Event, submission: Submission) -> bool:
        """Whether the event goes into quarantine."""
        if isinstance(event.outcome, Conflict) and event.on_conflict is OnConflict.QUARANTINE:
            return True
        if isinstance(event.outcome, Invalid) and self._keeps_invalid:
            return True
        return submission.respond_async and event.is_refused


def _no_longer_needed(submission: Submission) -> Iterator[int]:
    """The quarantine ids of released events now stored, duplicate or filtered; the others stay."""
    for entry, event in zip(submission.released, submission.events, strict=True):
        if isinstance(event.outcome, _SETTLED):
            yield entry


def _note_duplicates(submission: Submission, entries: _Entries) -> int:
    """Count the duplicates, as redeliveries too; how many there are."""
    again = [
        (event.topic, Redelivery(event.verdict.seq, event.source, event.received_at))
        for event in submission.events
        if type(event.verdict) is Duplicate
    ]
    entries.duplicates_on += [topic for topic, _ in again]
    entries.redeliveries += [redelivery for _, redelivery in again]
    return len(again)


def _note_conflict(event: Event, conflict: Conflict, entries: _Entries) -> None:
    """Count a conflict with a stored event on its topic, and as a redelivery."""
    if conflict.seq is not None:
        entries.conflicts_on.append(event.topic)
        content = ConflictingContent(event.digest, conflict.differences)
        entries.redeliveries.append(
            Redelivery(conflict.seq, event.source, event.received_at, content)
        )


def _note_failed(submission: Submission, fault: AggregatorError, entries: _Entries) -> None:
    """Quarantine the events of a failed submission, and count them as failed.

    Those that the intake found invalid keep their faults; those that it filtered are left out.
    """
    failed = QuarantineReason.FAILED, (Fault("", str(fault)),)
    kept = [event for event in submission.events if not isinstance(event.outcome, Filtered)]
    for event in kept:
        reason = _reason(event) if isinstance(event.outcome, Invalid) else failed
        entries.quarantined.append(_quarantined(event, submission, *reason))
    entries.counted["failed_async"] += len(kept)
    _warn(submission, len(kept), str(fault))


def _reason(event: Event) -> tuple[QuarantineReason, tuple[Fault, ...]]:
    if isinstance(event.outcome, Invalid):
        return QuarantineReason.INVALID, event.outcome.faults
    assert isinstance(event.outcome, Conflict)
    return QuarantineReason.CONFLICT, tuple(_faults_of(event.outcome))


def _faults_of(conflict: Conflict) -> Iterator[Fault]:
    stored = f"the stored event {conflict.seq}" if conflict.seq else "an event of its request"
    if not conflict.differences:
        yield Fault("", f"Another content than that of {stored}, of which only a digest is left.")
    for place in conflict.differences:
        yield Fault(place, f"Not the same as in {stored}.")


def _quarantined(
    event: Event, submission: Submission, reason: QuarantineReason, faults: tuple[Fault, ...]
) -> Quarantined:
    return Quarantined(
        id=0,
        kept_at=timestamp.now(),
        reason=reason,
        submission=submission.id,
        topic=event.topic,
        event_id=event.event_id,
        detail=msgspec.json.encode(faults),
        is_cloud_event=bool(event.attributes),
        headers=submission.headers,
        body=event.as_sent(),
    )


def _warn(submission: Submission, count: int, why: str) -> None:
    log.warning(
        "submission %s was answered 202; of its %d events %d failed and are in quarantine: %s",
        submission.id,
        len(submission.events),
        count,
        in_a_line(why, _LONGEST_WHY),
    )
