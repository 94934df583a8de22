"""Every outcome is known where it is counted and answered."""

from typing import get_args, get_type_hints

import pytest

from aggregator import outcome
from aggregator.api.publish import AnyResult
from aggregator.outcome import Outcome
from aggregator.store import Counters

OUTCOMES = [kind for kind in Outcome.__subclasses__() if kind.__module__ == outcome.__name__]


@pytest.mark.parametrize("kind", OUTCOMES)
def test_every_outcome_is_counted_and_belongs_to_what_was_received(kind: type[Outcome]) -> None:
    assert kind.status in Counters.__struct_fields__, f"store.Counters has no {kind.status!r}"
    assert Counters(**{kind.status: 1}).received == 1


def test_every_outcome_has_a_result_of_its_status() -> None:
    results = get_args(AnyResult)
    said = [get_args(get_type_hints(result)["status"]) for result in results]
    assert said == [(kind.status,) for kind in OUTCOMES]
