"""What `aggregator prove` makes of answers, numbers and events that contradict each other."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aggregator.client import (
    Difference,
    EventResult,
    Explanation,
    PublishAnswer,
    QuarantineEntry,
    Stats,
    StoredEvent,
    TopicStats,
)
from aggregator.prove.journal import Journal, JournaledClient, Promise
from aggregator.prove.quarantine import QuarantineCheck
from aggregator.prove.readers import Readers
from aggregator.prove.reconcile import Audit, CounterCheck
from aggregator.prove.workload import Request, Sent, name_of

GOOD = Request((Sent("a"),))
CONFLICTING = Request((Sent("a", is_conflicting=True),))
INVALID = Request((Sent("x", is_invalid=True),))
STRICT = Request((Sent("a"), Sent("x", is_invalid=True)), is_strict=True)


def told(journal: Journal, request: Request, *results: tuple[Any, ...]) -> None:
    known = journal.acknowledged_in(request)
    names = ("status", "seq", "received_at")
    listed = [
        EventResult(index=index, **dict(zip(names, result, strict=False)))
        for index, result in enumerate(results)
    ]
    journal.record(request, answer(*listed), known)


def answer(*results: EventResult) -> PublishAnswer:
    return PublishAnswer(len(results), 0, 0, list(results))


def broken(journal: Journal) -> set[Promise]:
    return {one.promise for one in journal.breaches}


def test_answers_that_agree_break_nothing() -> None:
    journal = Journal()
    told(journal, GOOD, ("stored", 1))
    told(journal, GOOD, ("duplicate", 1))
    told(journal, CONFLICTING, ("conflict", 1))
    told(journal, INVALID, ("invalid", None))
    told(journal, STRICT, ("duplicate", 1), ("invalid", None))
    assert journal.is_consistent
    assert journal.seqs == {"a": 1}


@pytest.mark.parametrize(
    ("request_", "results", "promise"),
    [
        (GOOD, [], Promise.ANSWERED),
        (GOOD, [("stored", None)], Promise.ANSWERED),
        (GOOD, [("duplicate", 2)], Promise.SAME),
        (GOOD, [("conflict", 1)], Promise.SAME),
        (GOOD, [("refused", None)], Promise.SAME),
        (CONFLICTING, [("stored", 2)], Promise.SAME),
        (CONFLICTING, [("duplicate", 1)], Promise.SAME),
        (INVALID, [("stored", 2)], Promise.SAME),
        (STRICT, [("stored", 1), ("invalid", None)], Promise.SAME),
    ],
)
def test_answer_that_contradicts_an_earlier_one_is_noted(
    request_: Request, results: list[tuple[str, int | None]], promise: Promise
) -> None:
    journal = Journal()
    told(journal, GOOD, ("stored", 1))
    told(journal, request_, *results)
    assert promise in broken(journal)


def test_event_that_is_stored_when_it_comes_again_is_not_true_to_the_first_answer() -> None:
    journal = Journal()
    told(journal, GOOD, ("duplicate", 1))
    told(journal, GOOD, ("stored", 1))
    assert not journal.is_consistent


def test_rivals_for_one_answer_may_be_told_in_any_order() -> None:
    """Two publishers send one event at the same time, and the duplicate hears of it first."""
    journal = Journal()
    known = journal.acknowledged_in(GOOD)
    journal.record(GOOD, answer(EventResult(index=0, status="duplicate", seq=1)), known)
    journal.record(GOOD, answer(EventResult(index=0, status="stored", seq=1)), known)
    assert journal.is_consistent


def test_event_that_came_at_two_times_is_noted() -> None:
    journal = Journal()
    told(journal, GOOD, ("stored", 1))
    told(journal, GOOD, ("duplicate", 1, "today"))
    told(journal, CONFLICTING, ("conflict", 1, "today"))
    assert journal.is_consistent
    told(journal, GOOD, ("duplicate", 1, "yesterday"))
    assert broken(journal) == {Promise.SAME}


def stats(**other: int) -> Stats:
    right = {"received_total": 2, "unique_processed": 1, "duplicate_dropped": 0, "conflicts": 0}
    right |= {"invalid": 1, "filtered": 0, "refused": 0, "queue_size_current": 0}
    return Stats(**(right | other), processed_topics=[], uptime_seconds=0.0)


TOPIC = Sent("a").topic
TOPICS = [TopicStats(TOPIC, 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"unique_processed": 0, "received_total": 1},
        {"unique_processed": 2, "received_total": 3},
        {"duplicate_dropped": 1, "received_total": 3},
        {"conflicts": 1},
        {"invalid": 2, "received_total": 3},
        {"refused": 1, "received_total": 3},
        {"filtered": 1},
        {"received_total": 3},
    ],
)
def test_numbers_that_do_not_agree_with_the_answers_are_noted(wrong: dict[str, int]) -> None:
    journal = Journal()
    told(journal, GOOD, ("stored", 1))
    told(journal, INVALID, ("invalid", None))
    counted = CounterCheck(journal)
    counted.check(stats(), TOPICS)
    assert journal.is_consistent
    CounterCheck(journal).check(stats(**wrong), TOPICS)
    assert broken(journal) == {Promise.COUNTED}


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [TopicStats("elsewhere", 1)],
        [TopicStats(TOPIC, 1), TopicStats("elsewhere", 1)],
        [TopicStats(TOPIC, 1, 1)],
        [TopicStats(TOPIC, 1, 0, 1)],
    ],
)
def test_numbers_of_a_topic_that_do_not_agree_with_the_answers_are_noted(
    wrong: list[TopicStats],
) -> None:
    journal = Journal()
    told(journal, GOOD, ("stored", 1))
    told(journal, INVALID, ("invalid", None))
    CounterCheck(journal).check(stats(), wrong)
    assert broken(journal) == {Promise.COUNTED}


def test_what_got_no_answer_may_be_counted_once_and_no_more() -> None:
    journal = Journal()
    told(journal, GOOD, ("stored", 1))
    told(journal, INVALID, ("invalid", None))
    counted = CounterCheck(journal)
    counted.check(stats(), TOPICS)
    journal.record_unanswered(Request((Sent("b"),)))
    topics = [*TOPICS, TopicStats(Sent("b").topic, 1)]
    counted.check(stats(unique_processed=2, received_total=3), topics)
    assert journal.is_consistent
    topics = [*TOPICS, TopicStats(Sent("b").topic, 2)]
    counted.check(stats(unique_processed=3, received_total=4), topics)
    assert broken(journal) == {Promise.COUNTED}


class StandIn(JournaledClient):
    """A service that says what it is told to, about three events that were acknowledged."""

    def __init__(
        self,
        rows: list[StoredEvent],
        stored: int = 3,
        came: int = 3,
        explained: Explanation | None = None,
    ) -> None:
        self.journal = Journal()
        for number in (1, 2, 3):
            told(self.journal, Request((Sent(f"id{number}"),)), ("stored", number))
        told(self.journal, Request((Sent("id1"),)), ("duplicate", 1, "today"))
        told(self.journal, Request((Sent("id1", is_conflicting=True),)), ("conflict", 1))
        self.rows, self.stored, self.came = rows, stored, came
        self.known = explained or Explanation(1, 1, [Difference(1)])
        self.dropped = 0
        self.entries: list[QuarantineEntry] = []
        self.streamed: list[StoredEvent] = []

    async def quarantined(self, reason: str | None = None) -> list[QuarantineEntry]:
        return [entry for entry in self.entries if reason in (None, entry.reason)]

    async def drop_all(self, reason: str) -> None:
        self.entries = [entry for entry in self.entries if entry.reason != reason]

    async def stats(self) -> Stats:
        return stats(quarantined=len(self.entries))

    async def follow(self, after: int) -> AsyncIterator[StoredEvent]:
        streamed, self.streamed = self.streamed, []
        for event in streamed:
            yield event

    async def events(self, after: int = 0) -> AsyncIterator[StoredEvent]:
        for row in self.rows:
            if row.seq > after:
                yield row

    async def settled_stats(self, seconds: float = 0.0) -> Stats:
        return stats(unique_processed=self.stored, duplicate_dropped=self.dropped)

    async def topics(self) -> list[TopicStats]:
        stored = Counter(Sent(name_of(row.payload)).topic for row in self.rows)
        return [TopicStats(topic, number) for topic, number in stored.items()]

    async def explain(self, topic: str, event_id: str) -> Explanation:
        assert (topic, event_id) == (Sent("id1").topic, "id1")
        return self.known

    async def send(self, request: Request) -> None:
        self.dropped = self.came


def row(seq: int, name: str | None = None, **other: Any) -> StoredEvent:
    members = Sent(name or f"id{seq}").members() | other
    payload = msgspec.Raw(msgspec.json.encode(members.pop("payload")))
    return StoredEvent(seq, payload=payload, **{"received_at": "today", **members})


async def audited(service: StandIn) -> Audit:
    audit = Audit(service)
    await audit.read_back()
    await audit.send_again()
    await audit.check_history()
    return audit


OTHER = {"name": "id3", "is_conflicting": False, "filler": "other"}
ROWS = [row(1), row(2), row(3)]


async def test_what_is_there_as_it_was_answered_breaks_nothing() -> None:
    service = StandIn(ROWS)
    audit = await audited(service)
    assert (audit.lost, audit.doubled) == ([], [])
    assert service.journal.is_consistent


@pytest.mark.parametrize(
    ("service", "promise"),
    [
        (StandIn(ROWS[:2], stored=2), Promise.STORED),
        (StandIn([row(1), row(2), row(4, "id3")]), Promise.STORED),
        (StandIn([*ROWS, row(4, "id3")], stored=4), Promise.ONCE),
        (StandIn([*ROWS, row(4, "ghost")], stored=4), Promise.TRACELESS),
        (StandIn([row(1), row(3), row(2)]), Promise.SAME),
        (StandIn([row(1), row(2), row(3, payload=OTHER)]), Promise.SAME),
        (StandIn([row(1), row(2), row(3, source="elsewhere")]), Promise.SAME),
        (StandIn(ROWS, stored=4), Promise.COUNTED),
        (StandIn([row(1, received_at="yesterday"), *ROWS[1:]]), Promise.SAME),
        (StandIn(ROWS, explained=Explanation(0, 1, [Difference(1)])), Promise.COUNTED),
        (StandIn(ROWS, explained=Explanation(2, 1, [Difference(1)])), Promise.COUNTED),
        (StandIn(ROWS, explained=Explanation(1, 0, [])), Promise.COUNTED),
        (StandIn(ROWS, explained=Explanation(1, 1, [])), Promise.COUNTED),
        (StandIn(ROWS, came=2), Promise.COUNTED),
    ],
)
async def test_what_is_there_otherwise_is_noted(service: StandIn, promise: Promise) -> None:
    audit = await audited(service)
    assert broken(service.journal) == {promise}
    assert bool(audit.lost) is (promise is Promise.STORED)
    assert bool(audit.doubled) is (promise is Promise.ONCE)


async def test_event_whose_request_got_no_answer_may_be_there() -> None:
    service = StandIn([*ROWS, row(4, "unanswered")], stored=4)
    await Audit(service, is_all_answered=False).read_back()
    assert service.journal.is_consistent


async def test_event_that_was_lost_and_came_again_counts_as_lost() -> None:
    service = StandIn(ROWS)
    told(service.journal, Request((Sent("id3"),)), ("stored", 3))
    audit = await audited(service)
    assert (audit.lost, audit.doubled) == (["id3"], [])


async def test_event_of_a_202_may_be_lost_by_a_kill_alone() -> None:
    service = StandIn(ROWS)
    accepted = service.journal.accepted
    service.journal.record_accepted(Request((Sent("proof-5-1"),), is_async=True))
    accepted.killed()
    service.journal.record_accepted(Request((Sent("proof-5-2"), Sent("proof-5-3")), is_async=True))
    accepted.settled()
    service.entries = [QuarantineEntry(1, "failed", "", as_sent(Sent("proof-5-3")))]
    audit = Audit(service)
    await audit.read_back()
    await audit.check_accepted(QuarantineCheck(service))
    assert audit.lost == ["proof-5-2"]
    assert broken(service.journal) == {Promise.STORED}


async def test_event_of_a_202_that_is_stored_is_acknowledged_by_that() -> None:
    name = "proof-5-1"
    service = StandIn([*ROWS, row(4, name)], stored=4)
    service.journal.record_accepted(Request((Sent(name),), is_async=True))
    service.journal.accepted.settled()
    await Audit(service).read_back()
    assert service.journal.is_consistent
    assert service.journal.seqs[name] == 4


def as_sent(sent: Sent) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(sent.as_sent()))


CONFLICT = Sent("id1", is_conflicting=True)  # on the topic whose conflicts are kept in quarantine


@pytest.mark.parametrize(
    ("there", "is_right"),
    [([CONFLICT], True), ([], False), ([CONFLICT, CONFLICT], False), ([CONFLICT, GOOD], False)],
)
async def test_quarantine_holds_what_was_said_to_be_there(
    there: list[Sent | Request], is_right: bool
) -> None:
    service = StandIn(ROWS)
    sent = [one.events[0] if isinstance(one, Request) else one for one in there]
    service.entries = [
        QuarantineEntry(number, "conflict", "", as_sent(one)) for number, one in enumerate(sent)
    ]
    await QuarantineCheck(service).check()
    assert broken(service.journal) == (set() if is_right else {Promise.COUNTED})
    assert service.entries == []


async def test_what_is_nobodys_event_is_noted() -> None:
    service = StandIn([*ROWS, row(4, payload="nobody's")], stored=4)
    await Audit(service).read_back()
    assert broken(service.journal) == {Promise.TRACELESS}


def test_what_was_told_to_have_failed_is_not_stored() -> None:
    journal = Journal()
    told(journal, GOOD, ("duplicate", 1))
    journal.check_told()
    assert broken(journal) == {Promise.TRACELESS}
    journal = Journal()
    journal.record_unanswered(GOOD)
    told(journal, GOOD, ("duplicate", 1))
    journal.check_told()
    assert journal.is_consistent


@pytest.mark.parametrize(
    ("stream", "is_right"),
    [
        ([1, 2, 3], True),
        ([1, 3], False),
        ([1, 1, 2, 3], False),
        ([2, 1, 3], False),
        ([1, 2], False),
        ([1, 2, 3, 4], False),
    ],
)
async def test_reader_of_the_stream_gets_every_event_once_and_in_order(
    stream: list[int], is_right: bool
) -> None:
    service = StandIn(ROWS)
    service.streamed = [row(seq) for seq in stream]
    readers = Readers(service, 1)
    readers.start()
    await readers.check({1: "id1", 2: "id2", 3: "id3"}, seconds=0.3)
    assert broken(service.journal) == (set() if is_right else {Promise.READ})


async def test_reader_who_gets_another_event_under_a_seq_is_noted() -> None:
    service = StandIn([row(1, "id3"), *ROWS[1:]])
    readers = Readers(service, 1)
    service.streamed = ROWS
    readers.start()
    await readers.check({1: "id1", 2: "id2", 3: "id3"}, seconds=0.3)
    assert broken(service.journal) == {Promise.READ}
