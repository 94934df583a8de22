"""Reconciles the journal with the service: its counters, and what it has stored."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from aggregator.client import Stats, StoredEvent, TopicStats
from aggregator.prove.journal import Counts, Journal, JournaledClient, Promise
from aggregator.prove.quarantine import QuarantineCheck
from aggregator.prove.workload import FIELD, UNIQUE_IDS, Sent, name_of, resend

T = TypeVar("T")

_AT_ONCE = 1000  # events sent again in one request
_LOOKED_FOR = 200  # events at most that are asked for one by one


class CounterCheck:
    """Compares the growth of the counters with the answers, after each start of the service.

    Nothing is under way then. In doubt are only the events of requests that the kill has cut off:
    the service may have counted them or not.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._counts = Counts()
        self._topic_counts: defaultdict[str, Counts] = defaultdict(Counts)
        self._stats: Stats | None = None
        self._topics: dict[str, TopicStats] = {}

    def check(self, stats: Stats, topics: Iterable[TopicStats]) -> None:
        """Compare what has been added since the last check, and that the sums are right."""
        by_name = {topic.topic: topic for topic in topics}
        wrong = (*self._grown(stats), *self._grown_topics(by_name), *_summed(stats, by_name))
        for how, example in wrong:
            self._journal.breaches.note(Promise.COUNTED, how, example)
        self._stats, self._topics = stats, by_name
        self._counts = self._journal.counts.copy()
        for name, counts in self._journal.topics.items():
            self._topic_counts[name] = counts.copy()

    def _grown(self, stats: Stats) -> Iterator[tuple[str, str]]:
        new = self._journal.counts.since(self._counts)
        answered, good = new.answered, new.leeway("good")
        again = answered["duplicate"] + answered["conflict"]
        for name, least, leeway in (
            ("unique_processed", answered["stored"], good),
            ("duplicate_dropped", again, new.leeway("good", "conflicting")),
            ("conflicts", answered["conflict"], new.leeway("conflicting")),
            ("invalid", answered["invalid"], new.leeway("invalid")),
            ("refused", answered["refused"], good),
            ("received_total", answered.total(), new.leeway("good", "conflicting", "invalid")),
        ):
            grown = getattr(stats, name) - getattr(self._stats, name, 0)  # 0 at the first check
            if not least <= grown <= least + leeway:
                yield f"{name} does not agree with the answers", f"{grown}, not {least} + {leeway}"

    def _grown_topics(self, topics: dict[str, TopicStats]) -> Iterator[tuple[str, str]]:
        for topic in sorted({*topics, *self._topics, *self._journal.topics}):
            before = self._topics.get(topic) or TopicStats(topic)
            now = topics.get(topic) or TopicStats(topic)
            new = self._journal.topics[topic].since(self._topic_counts[topic])
            for name, status, kind in (
                ("stored", "stored", "good"),
                ("duplicates", "duplicate", "good"),
                ("conflicts", "conflict", "conflicting"),
            ):
                grown = getattr(now, name) - getattr(before, name)
                least, leeway = new.answered[status], new.leeway(kind)
                if not least <= grown <= least + leeway:
                    how = f"{name} of a topic do not agree with the answers"
                    yield how, f"{grown}, not {least} + {leeway}, of {topic}"


def _summed(stats: Stats, topics: dict[str, TopicStats]) -> Iterator[tuple[str, str]]:
    parts = stats.unique_processed + stats.duplicate_dropped + stats.invalid
    parts += stats.filtered + stats.refused + stats.queue_size_current
    if parts != stats.received_total:
        yield "received_total is not the sum of the rest", f"{stats.received_total}, not {parts}"
    summed = (
        sum(topic.stored for topic in topics.values()),
        sum(topic.duplicates + topic.conflicts for topic in topics.values()),
    )
    if summed != (counted := (stats.unique_processed, stats.duplicate_dropped)):
        yield "the numbers of the topics do not sum up to those of all", f"{summed} and {counted}"


class Audit:
    """Reads everything back, sends everything again, and compares the numbers."""

    def __init__(self, client: JournaledClient, *, is_all_answered: bool = True) -> None:
        self._client = client
        self._is_all_answered = is_all_answered
        self._journal = client.journal
        self._breaches = client.journal.breaches
        self._rows: Counter[str] = Counter()
        self._kept: set[str] = set()  # read back under the seq that was answered
        self.stored: dict[int, str] = {}
        """The name of each event that was read back, by seq."""
        self.never_settled: list[str] = []
        """Events that were answered 202 and are nowhere, to be set before `lost` is asked for."""
        # Stored a second time during the run, before anything was read back.
        self._stored_again_before = set(client.journal.stored_again)

    @property
    def lost(self) -> list[str]:
        """Acknowledged events that are not stored, or were not when they were sent again."""
        acknowledged = (
            one
            for one in self._journal.seqs
            if one not in self._kept or self._was_stored_again(one)
        )
        return [*acknowledged, *self.never_settled]

    @property
    def doubled(self) -> list[str]:
        """Events that are stored more than once, or are since `send_again`."""
        there = [name for name, times in self._rows.items() if times > 1]
        again = self._journal.stored_again - self._stored_again_before
        return [*there, *(one for one in again if self._rows[one] == 1)]

    async def read_back(self) -> None:
        """Check that what is stored is what was acknowledged. Raises ClientError."""
        last = 0
        async for event in self._client.events():
            if event.seq <= last:
                self._breaches.note(Promise.SAME, "events are out of order", event.seq)
            last = event.seq
            self._note(event)
        for name in self.lost:
            self._breaches.note(Promise.STORED, "acknowledged events are lost", name)
        for name in self.doubled:
            self._breaches.note(Promise.ONCE, "events are stored more than once", name)
        await self._check_counted()

    async def check_accepted(self, quarantine: QuarantineCheck) -> None:
        """Check what became of each event that was answered 202. Raises ClientError."""
        self.never_settled = await quarantine.nowhere(set(self._rows))
        for name in self.never_settled:
            how = "events that were answered 202 are neither stored nor in quarantine"
            self._breaches.note(Promise.STORED, how, name)

    async def check_found(self) -> None:
        """Check that events are found by their names and by a field. Raises ClientError."""
        first: dict[tuple[str, str, str], int] = {}
        for seq, name in self.stored.items():
            first.setdefault(Sent(name).place, seq)
        for place, seq in sampled(list(first.items())):
            if (found := (await self._client.event(*place)).seq) != seq:
                how = "what is found by its id is not the first event that has it"
                self._breaches.note(Promise.READ, how, f"{found}, not {seq}, of {place}")
        for seq, name in sampled(list(self.stored.items())):
            pages = self._client.event_pages(Sent(name).topic, field=FIELD, equals=f'"{name}"')
            if (seqs := [event.seq async for page in pages for event in page.events]) != [seq]:
                how = "what is found by a field is not the event that has it"
                self._breaches.note(Promise.READ, how, f"{seqs}, not {seq}, of {name}")

    async def check_history(self) -> None:
        """Check what `explain` tells of events that came again. Raises ClientError."""
        journal = self._journal
        came = [
            one
            for one in (*journal.conflicts, *journal.duplicates)
            if one in self._kept and Sent(one).topic in UNIQUE_IDS
        ]
        for name in sampled(came):
            told = await self._client.explain(Sent(name).topic, Sent(name).event_id)
            conflicts = sum(other.times for other in told.conflicting)
            uncertain = journal.uncertain[name]
            for what, number, least, leeway in (
                ("duplicates", told.duplicates, journal.duplicates[name], uncertain),
                ("conflicts", told.conflicts, journal.conflicts[name], uncertain),
                ("what differed", conflicts, told.conflicts, 0),
            ):
                if not least <= number <= least + leeway:
                    how = f"{what} of an event are not explained as answered"
                    example = f"{number}, not {least} + {leeway}, of {name}"
                    self._breaches.note(Promise.COUNTED, how, example)

    async def send_again(self) -> None:
        """Check that every acknowledged event is a duplicate now. Raises ClientError."""
        before = await self._client.settled_stats()
        sent = list(self._journal.seqs)
        for request in resend(sent, _AT_ONCE):
            await self._client.send(request)
        for name in self._journal.stored_again - self._stored_again_before:
            how = "events are stored anew when they come again"
            self._breaches.note(Promise.ONCE, how, name)
        after = await self._client.settled_stats()
        came = after.duplicate_dropped - before.duplicate_dropped
        if came != len(sent) or after.unique_processed != before.unique_processed:
            how = "old events that came again are not counted as duplicates"
            self._breaches.note(Promise.COUNTED, how, f"{came} of {len(sent)}")

    def _was_stored_again(self, name: str) -> bool:
        return name in self._stored_again_before and self._rows[name] == 1

    def _note(self, event: StoredEvent) -> None:
        name = self.stored[event.seq] = name_of(event.payload)
        self._rows[name] += 1
        seq = self._journal.seqs.get(name)
        if seq is None and name in self._journal.accepted:
            seq = self._journal.seqs[name] = event.seq
        if seq is None and self._is_all_answered:
            how = "an event is stored that was never acknowledged, though all were answered"
            self._breaches.note(Promise.TRACELESS, how, name)
        elif seq == event.seq:
            self._kept.add(name)
            self._journal.record_received_at(name, event.received_at)
            if not _is_as_sent(event, name):
                how = "an event is stored with another content than was sent"
                self._breaches.note(Promise.SAME, how, name)

    async def _check_counted(self) -> None:
        counted = (await self._client.settled_stats()).unique_processed
        if counted != (rows := self._rows.total()):
            how = "the number of stored events is not what is counted"
            self._breaches.note(Promise.COUNTED, how, f"{rows} and {counted}")
        by_topic = {topic.topic: topic.stored for topic in await self._client.topics()}
        rows_of = Counter(Sent(name).topic for name in self.stored.values())
        if by_topic != rows_of:
            how = "the numbers of stored events by topic are not what is counted"
            self._breaches.note(Promise.COUNTED, how, f"{dict(rows_of)} and {by_topic}")


def sampled(all_: list[T]) -> list[T]:
    """So many of them as there is time for, from beginning to end."""
    return all_[:: 1 + len(all_) // _LOOKED_FOR]


def _is_as_sent(event: StoredEvent, name: str) -> bool:
    read = msgspec.structs.asdict(event) | {"payload": msgspec.json.decode(event.payload)}
    return all(read[member] == value for member, value in Sent(name).members().items())
