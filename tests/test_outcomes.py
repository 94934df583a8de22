"""Every outcome is known where it is counted and answered."""

from typing import get_args, get_type_hints

import pytest

from aggregator import outcome
from aggregator.api.publish import AnyResult
from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.outcome import Outcome
from aggregator.store import Counters
from aggregator_sqlite.store import SqliteStore
from conftest import Start

OUTCOMES = [kind for kind in Outcome.__subclasses__() if kind.__module__ == outcome.__name__]


@pytest.mark.parametrize("kind", OUTCOMES)
def test_every_outcome_is_counted_and_belongs_to_what_was_received(kind: type[Outcome]) -> None:
    assert kind.status in Counters.__struct_fields__, f"store.Counters has no {kind.status!r}"
    assert Counters(**{kind.status: 1}).received == 1


def test_every_outcome_has_a_result_of_its_status() -> None:
    results = get_args(AnyResult)
    said = [get_args(get_type_hints(result)["status"]) for result in results]
    assert said == [(kind.status,) for kind in OUTCOMES]


@pytest.mark.parametrize("kind", OUTCOMES)
async def test_every_outcome_is_told_by_the_stats(
    kind: type[Outcome], start: Start, store_url: str
) -> None:
    store = SqliteStore(store_url)
    await store.open(DEFAULT_KEY_SPEC)
    async with store.transaction() as tx:
        await tx.count(Counters(**{kind.status: 7}), {})
    await store.close()
    client = await start()
    async with client.get("/stats") as response:
        stats = await response.json()
    assert stats.pop("received_total") == 7
    assert 7 in stats.values()
