"""What `aggregator prove` makes of answers, numbers and events that contradict each other."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aggregator.client import (
    Difference,
    EventResult,
    Explanation,
    PublishAnswer,
    Stats,
    StoredEvent,
    TopicStats,
)
from aggregator.prove.journal import Journal, JournaledClient, Promise
from aggregator.prove.reconcile import Audit, CounterCheck
from aggregator.prove.workload import Request, Sent

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
            told(self.journal, Request((Sent(str(number)),)), ("stored", number))
        told(self.journal, Request((Sent("1"),)), ("duplicate", 1, "today"))
        told(self.journal, Request((Sent("1", is_conflicting=True),)), ("conflict", 1))
        self.rows, self.stored, self.came = rows, stored, came
        self.known = explained or Explanation(1, 1, [Difference(1)])
        self.dropped = 0

    async def events(self) -> AsyncIterator[StoredEvent]:
        for row in self.rows:
            yield row

    async def settled_stats(self, seconds: float = 0.0) -> Stats:
        return stats(unique_processed=self.stored, duplicate_dropped=self.dropped)

    async def explain(self, topic: str, event_id: str) -> Explanation:
        assert (topic, event_id) == (Sent("1").topic, "1")
        return self.known

    async def send(self, request: Request) -> PublishAnswer:
        self.dropped = self.came
        return answer()


def row(seq: int, event_id: str | None = None, **other: Any) -> StoredEvent:
    members = Sent(event_id or str(seq)).members() | other
    payload = msgspec.Raw(msgspec.json.encode(members.pop("payload")))
    return StoredEvent(seq, payload=payload, **{"received_at": "today", **members})


async def audited(service: StandIn) -> Audit:
    audit = Audit(service)
    await audit.read_back()
    await audit.send_again()
    await audit.check_history()
    return audit


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
        (StandIn([row(1), row(2), row(4, "3")]), Promise.STORED),
        (StandIn([*ROWS, row(4, "3")], stored=4), Promise.ONCE),
        (StandIn([*ROWS, row(4, "ghost")], stored=4), Promise.TRACELESS),
        (StandIn([row(1), row(3), row(2)]), Promise.SAME),
        (StandIn([row(1), row(2), row(3, payload={"number": 7})]), Promise.SAME),
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
    told(service.journal, Request((Sent("3"),)), ("stored", 3))
    audit = await audited(service)
    assert (audit.lost, audit.doubled) == (["3"], [])
