"""Honest books first, then each way of cooking them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import msgspec
import pytest

from aggregator.client import EventResult, PublishAnswer, StoredEvent
from loadgen.answers import Answers
from loadgen.verdict import Growth, Readback, Verdict, canonical, judge
from loadgen.workload import Event, Key, encode, make_plan

PLAN = make_plan(seed=1, events=40, topics=3, duplicates=0.25, batch=10)
FIRST = PLAN.unique[0]


@dataclass
class BatchRecorder:
    answers: Answers
    growth: Growth
    stored: list[StoredEvent]

    def verdict(self) -> Verdict:
        readback = Readback(PLAN.unique)
        readback.add(self.stored)
        return judge(PLAN, self.answers, self.growth, readback)


def honest_books(known: Iterable[Key] = ()) -> BatchRecorder:
    """The books of a run in which the service knew some keys already."""
    answers, seen = Answers(), set(known)
    stored = [as_stored(event, seq) for seq, event in enumerate(PLAN.unique, 1)]
    seqs = {(event.topic, event.event_id): event.seq for event in stored}
    for batch in PLAN.batches:
        results = []
        for index, event in enumerate(batch):
            status = "duplicate" if event.key in seen else "stored"
            seen.add(event.key)
            results.append(result(index, event, status, seqs))
        answers.record(batch, answer(results))
    fresh = answers.statuses["stored"]
    return BatchRecorder(answers, Growth(received=40, unique=fresh, duplicates=40 - fresh), stored)


def as_stored(event: Event, seq: int) -> StoredEvent:
    return StoredEvent(
        seq, event.topic, event.event_id, event.timestamp, event.source, as_sent(event)
    )


def as_sent(event: Event) -> msgspec.Raw:
    (sent,) = msgspec.json.decode(encode((event,)), type=list[dict[str, msgspec.Raw]])
    return sent["payload"]


def result(index: int, event: Event, status: str, seqs: dict[tuple[str, str], int]) -> EventResult:
    return EventResult(
        index=index,
        status=status,
        topic=event.topic,
        event_id=event.event_id,
        seq=seqs[event.key],
    )


def answer(results: list[EventResult]) -> PublishAnswer:
    statuses = [result.status for result in results]
    return PublishAnswer(
        len(results), statuses.count("stored"), statuses.count("duplicate"), results
    )


def test_honest_books_are_praised():
    assert str(honest_books().verdict()) == (
        "OK: 30 events stored once, 10 duplicates dropped, nothing lost"
    )


def test_spelling_of_numbers_and_order_of_members_do_not_matter():
    assert canonical(b'{"price":2.50,"pieces":2.00}') == canonical(b'{"pieces":2,"price":2.5}')


@pytest.mark.parametrize(
    ("sent", "came_back"),
    [
        (b"true", b"1"),
        (b"0.478885454921609247832", b"0.47888545492160926"),
        (b"null", b"{}"),
        (b"[1,2]", b"[2,1]"),
        (b'"1"', b"1"),
    ],
)
def test_other_values_do_matter(sent: bytes, came_back: bytes):
    assert canonical(sent) != canonical(came_back)


def lose_an_event(books: BatchRecorder) -> None:
    del books.stored[0]


def store_an_event_twice(books: BatchRecorder) -> None:
    books.stored.append(as_stored(FIRST, 31))


def change_a_payload(books: BatchRecorder) -> None:
    books.stored[0].payload = msgspec.Raw(b"{}")


def change_a_source(books: BatchRecorder) -> None:
    books.stored[0].source = "elsewhere"


def change_a_timestamp(books: BatchRecorder) -> None:
    books.stored[0].timestamp = None


def change_a_seq(books: BatchRecorder) -> None:
    books.stored[0].seq = 99


def count_too_few_unique(books: BatchRecorder) -> None:
    books.growth = replace(books.growth, unique=29)


def count_too_many_duplicates(books: BatchRecorder) -> None:
    books.growth = replace(books.growth, duplicates=11)


def receive_too_many(books: BatchRecorder) -> None:
    books.growth = replace(books.growth, received=41)


def answer_stored_again(books: BatchRecorder) -> None:
    again = result(0, FIRST, "stored", books.answers.seqs)
    books.answers.record((FIRST,), answer([again]))


def answer_another_seq(books: BatchRecorder) -> None:
    moved = result(0, FIRST, "duplicate", {FIRST.key: 99})
    books.answers.record((FIRST,), answer([moved]))


@pytest.mark.parametrize(
    ("cook", "complaint"),
    [
        (lose_an_event, "1 event sent but not stored"),
        (store_an_event_twice, "1 event stored more than once"),
        (change_a_payload, "1 event stored with another payload"),
        (change_a_source, "1 event stored with another payload, source"),
        (change_a_timestamp, "1 event stored with another payload, source or timestamp"),
        (change_a_seq, "1 event stored under another seq"),
        (count_too_few_unique, "unique_processed grew by 29, not by 30"),
        (count_too_many_duplicates, "duplicate_dropped grew by 11, not by 10"),
        (receive_too_many, "received_total grew by 41, not by 40"),
        (answer_stored_again, "`stored` a second time"),
        (answer_another_seq, "two different `seq`"),
    ],
)
def test_cooked_books_are_found_out(cook: Callable[[BatchRecorder], None], complaint: str):
    books = honest_books()
    cook(books)
    verdict = books.verdict()

    assert not verdict.good
    assert complaint in str(verdict)


def test_statistics_that_do_not_match_may_be_another_publishers():
    books = honest_books()
    count_too_many_duplicates(books)

    assert "were other publishers active?" in str(books.verdict())


def test_retries_may_have_been_counted_or_not():
    batch = PLAN.batches[0]
    for counted in (0, 4, 10):
        books = honest_books()
        books.answers.record_failed_try(batch, "time-out")
        books.growth = Growth(40 + counted, 30, 10 + counted)
        assert books.verdict().good


def test_retries_excuse_no_more_than_was_sent_again():
    books = honest_books()
    books.answers.record_failed_try(PLAN.batches[0], "time-out")
    books.growth = Growth(51, 30, 21)

    assert "duplicate_dropped grew by 21, not by 10 to 20" in str(books.verdict())


def test_retries_excuse_no_sum_that_does_not_add_up():
    books = honest_books()
    books.answers.record_failed_try(PLAN.batches[0], "time-out")
    books.growth = Growth(45, 30, 12)

    assert "what was received is not what was unique, dropped or refused" in str(books.verdict())


def test_event_stored_by_a_try_without_an_answer_is_accounted_for():
    resent = PLAN.batches[0]
    books = honest_books(known={event.key for event in resent})
    books.growth = Growth(50, 30, 20)
    assert "unique_processed grew by 30" in str(books.verdict())

    books.answers.record_failed_try(resent, "lost connection")

    assert str(books.verdict()) == (
        "OK: 30 events stored once, 20 duplicates dropped (10 of them from retries), nothing lost"
    )


def test_second_run_of_a_seed_is_all_duplicates():
    books = honest_books(known={event.key for event in PLAN.unique})

    assert str(books.verdict()) == (
        "OK: 30 events stored once (30 of them before this run), 40 duplicates dropped, "
        "nothing lost"
    )


def test_run_that_completes_one_killed_half_way_is_right():
    books = honest_books(known={event.key for event in PLAN.unique[:12]})

    assert books.growth.unique == 18
    assert "(12 of them before this run)" in str(books.verdict())
