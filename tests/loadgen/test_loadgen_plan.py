import hashlib
from collections import Counter

import pytest

from loadgen.workload import Plan, encode, make_plan


def plan(**changes: float) -> Plan:
    arguments = {"seed": 1, "events": 500, "topics": 3, "duplicates": 0.2, "batch": 30}
    return make_plan(**(arguments | changes))


def sent(plan: Plan) -> bytes:
    return b"\n".join(map(encode, plan.batches))


def test_same_seed_sends_the_same_bytes_on_every_python():
    assert sent(plan()) == sent(plan())
    assert hashlib.sha256(sent(plan())).hexdigest() == (
        "f9d568f874d172d7c7ed3e492fc92ed514f854578913177dfdf1bc1d7e84821a"
    )


def test_another_seed_shares_no_event():
    assert {event.key for event in plan().unique}.isdisjoint(
        event.key for event in plan(seed=2).unique
    )


def test_proportions_are_those_asked_for():
    made = plan()

    assert (made.events, len(made.unique), made.duplicates) == (500, 400, 100)
    assert [len(batch) for batch in made.batches] == [30] * 16 + [20]
    assert Counter(event.topic for event in made.unique) == {
        "auth.login": 134,
        "billing.payment": 133,
        "inventory.stock": 133,
    }


def test_every_duplicate_is_an_exact_resend_of_an_earlier_event():
    made = plan()
    seen: set[tuple[str, str]] = set()
    order = [event for batch in made.batches for event in batch]
    fresh = [event for event in order if event.key not in seen and not seen.add(event.key)]

    assert fresh == list(made.unique)
    assert set(map(id, order)) == set(map(id, made.unique))


def test_longer_run_begins_with_the_events_of_a_shorter_one():
    assert plan(events=900).unique[:400] == plan().unique


def test_many_topics_are_all_different():
    assert len(plan(topics=10).topics) == 10


@pytest.mark.parametrize(("events", "duplicates"), [(1, 0.0), (1, 0.9), (3, 0.99), (10, 0.0)])
def test_there_is_always_a_first_copy(events: int, duplicates: float):
    made = plan(events=events, duplicates=duplicates)

    assert made.events == events
    assert made.unique
