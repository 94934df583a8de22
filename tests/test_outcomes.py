"""Every outcome is known where it is counted and answered."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from aggregator import outcome
from aggregator.api.publish import AnyResult
from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.outcome import Duplicate, Outcome
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


@pytest.mark.parametrize("second", [0, -1, 2**63 - 1, 2**63, 2**64, 10**30, True, 1.0, "1", None])
@pytest.mark.parametrize("first", [1, -1, 2**63, 10**30, True, None])
def test_duplicate_is_checked_as_any_other_outcome(first: Any, second: Any) -> None:
    for duplicate in (Duplicate(first, second), Duplicate(second, first)):
        assert _is_taken(duplicate) == _can_be_told(duplicate)


def _is_taken(duplicate: Duplicate) -> bool:
    try:
        outcome.check(duplicate)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _can_be_told(duplicate: Duplicate) -> bool:
    """Whether msgspec takes it for one, and can write it."""
    members = {"type": "Duplicate", **msgspec.structs.asdict(duplicate)}
    try:
        return msgspec.convert(members, Duplicate, strict=True) == duplicate and bool(
            msgspec.json.encode(duplicate)
        )
    except (TypeError, ValueError, OverflowError):
        return False
