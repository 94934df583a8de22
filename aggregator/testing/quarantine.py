"""What every store promises of its quarantine."""

from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from aggregator.store import (
    ENTRY_BYTES,
    MOST_EVICTED,
    PAGE_BYTES,
    Counters,
    KeepsQuarantine,
    Quarantined,
    QuarantineQuery,
    QuarantineReason,
    QuarantineTransaction,
)
from aggregator.testing.making import Rollback, make_entry


async def put_aside(store: KeepsQuarantine, *entries: Quarantined) -> None:
    async with store.transaction() as tx:
        await tx.quarantine(entries)
        await tx.count(Counters(), {})


async def ids_aside(store: KeepsQuarantine, **wanted: Any) -> list[str]:
    """The event_ids in quarantine, of all pages."""
    found: list[str] = []
    while True:
        page = await store.quarantined(QuarantineQuery(**wanted))
        found += [entry.event_id for entry in page.entries]
        if page.next is None:
            return found
        wanted["after"] = page.next


def _with_each_member(size: int) -> list[dict[str, Any]]:
    """Members of an entry; in each case another one is as large as that."""
    text, content = "x" * size, b"x" * size
    return [
        {"body": content},
        {"detail": content},
        {"submission": text},
        {"topic": "é" * (size // 2 + 1)},
        {"event_id": text},
        {"headers": {"x": text}},
        {"headers": {text: "\udcff"}},
    ]


class QuarantineContract:
    """What every store promises of its quarantine; for one that `KeepsQuarantine`."""

    async def test_transaction_can_keep_a_quarantine(self, store: KeepsQuarantine) -> None:
        async with store.transaction() as tx:
            assert isinstance(tx, QuarantineTransaction)

    async def test_quarantined_event_is_read_back_as_it_was(self, store: KeepsQuarantine) -> None:
        entry = make_entry(
            "1",
            reason=QuarantineReason.CONFLICT,
            detail=b'[{"pointer":"/topic"}]',
            is_cloud_event=True,
            headers={"x-delivery": "a\udcff", "x-other": "é"},
            body=b"\xff no JSON",
        )
        await put_aside(store, entry)
        (found,) = (await store.quarantined(QuarantineQuery())).entries
        assert found == replace(entry, id=found.id)

    async def test_ids_in_quarantine_are_never_given_again(self, store: KeepsQuarantine) -> None:
        await put_aside(store, make_entry("1", id=70), make_entry("2", id=70))
        first, second = (await store.quarantined(QuarantineQuery())).entries
        assert first.id < second.id
        async with store.transaction() as tx:
            await tx.drop([second.id, first.id])
        await put_aside(store, make_entry("3"))
        (third,) = (await store.quarantined(QuarantineQuery())).entries
        assert third.id > second.id

    async def test_what_is_not_in_quarantine_is_dropped_quietly(
        self, store: KeepsQuarantine
    ) -> None:
        await put_aside(store, make_entry("1"), make_entry("2"))
        first, _ = (await store.quarantined(QuarantineQuery())).entries
        async with store.transaction() as tx:
            await tx.drop([first.id, first.id, 999, -1, 2**70])
            await tx.count(Counters(), {})
        assert (tx.counters.quarantined, tx.counters.evicted) == (1, 0)
        assert await ids_aside(store) == ["2"]

    async def test_quarantine_is_searched_by_every_filter(self, store: KeepsQuarantine) -> None:
        await put_aside(
            store,
            make_entry("1", "a", kept_at=10),
            make_entry("2", "b", kept_at=20, reason=QuarantineReason.FAILED),
            make_entry("3", "a", kept_at=30, submission="other"),
        )
        entries = (await store.quarantined(QuarantineQuery())).entries
        assert await ids_aside(store, topic="a") == ["1", "3"]
        assert await ids_aside(store, reason=QuarantineReason.FAILED) == ["2"]
        assert await ids_aside(store, submission="other") == ["3"]
        assert await ids_aside(store, kept_since=20, kept_until=30) == ["2"]
        assert await ids_aside(store, id=entries[1].id) == ["2"]
        assert await ids_aside(store, id=entries[1].id, topic="a") == []
        assert await ids_aside(store, id=entries[1].id, after=entries[1].id) == []
        assert await ids_aside(store, id=2**70) == []
        assert await ids_aside(store, after=entries[0].id) == ["2", "3"]

    @pytest.mark.parametrize("limit", [1, 3, 4])
    async def test_pages_of_quarantine_hold_every_entry_once(
        self, store: KeepsQuarantine, limit: int
    ) -> None:
        ids = ["1", "2", "3", "4"]
        await put_aside(store, *(make_entry(event_id) for event_id in ids))
        page = await store.quarantined(QuarantineQuery(limit=limit))
        assert [entry.event_id for entry in page.entries] == ids[:limit]
        assert (page.next is None) == (limit == 4)
        assert await ids_aside(store, limit=limit) == ids

    @pytest.mark.parametrize("large", _with_each_member(PAGE_BYTES // 3 + 1))
    async def test_page_of_large_entries_ends_early(
        self, store: KeepsQuarantine, large: dict[str, Any]
    ) -> None:
        entries = [replace(make_entry(str(number)), **large) for number in range(7)]
        await put_aside(store, *entries)
        page = await store.quarantined(QuarantineQuery())
        assert len(page.entries) == 3
        assert page.next == page.entries[-1].id
        assert await ids_aside(store) == [entry.event_id for entry in entries]

    async def test_old_entries_are_evicted_and_then_the_oldest(
        self, store: KeepsQuarantine
    ) -> None:
        ages = [10, 40, 20, 30, 50]
        entries = [make_entry(str(age), kept_at=age) for age in ages]
        size = entries[0].size
        await put_aside(store, *entries)
        async with store.transaction() as tx:
            assert await tx.evict(10, 5 * size) == 0
            assert await tx.evict(21, 5 * size) == 2
            assert await tx.evict(21, 3 * size) == 0
            assert await tx.evict(21, 3 * size - 1) == 1
            await tx.count(Counters(), {})
        assert (tx.counters.quarantined, tx.counters.evicted) == (2, 3)
        assert await store.counters() == tx.counters
        assert await ids_aside(store) == ["30", "50"]

    async def test_room_that_old_entries_leave_is_not_made_again(
        self, store: KeepsQuarantine
    ) -> None:
        entries = [make_entry(str(age), kept_at=age) for age in (10, 20, 30, 40, 50)]
        await put_aside(store, *entries)
        async with store.transaction() as tx:
            assert await tx.evict(11, 3 * entries[0].size) == 2, "one is old, and one too much"
            assert await tx.evict(31, 2 * entries[0].size) == 1, "the old one was one too much"
            await tx.count(Counters(), {})
        assert (tx.counters.quarantined, tx.counters.evicted) == (2, 3)
        assert await ids_aside(store) == ["40", "50"]

    @pytest.mark.parametrize("large", _with_each_member(3000))
    async def test_every_member_of_an_entry_fills_the_quarantine(
        self, store: KeepsQuarantine, large: dict[str, Any]
    ) -> None:
        entries = [replace(make_entry("1"), **large), make_entry("2")]
        size = entries[0].size + entries[1].size
        await put_aside(store, *entries)
        async with store.transaction() as tx:
            assert await tx.evict(0, size) == 0
            assert await tx.evict(0, size - 1) == 1
            assert await tx.evict(0, entries[1].size) == 0
        assert size > 3000 + 2 * ENTRY_BYTES

    async def test_no_more_are_evicted_at_once_than_it_says(self, store: KeepsQuarantine) -> None:
        old = [make_entry("old", kept_at=number % 2) for number in range(10)]
        await put_aside(store, *old, *(make_entry(str(number)) for number in range(MOST_EVICTED)))
        async with store.transaction() as tx:
            assert await tx.evict(1, 0) == MOST_EVICTED
            await tx.count(Counters(), {})
        assert tx.counters.evicted == MOST_EVICTED
        assert await ids_aside(store) == [
            str(number) for number in range(MOST_EVICTED - 10, MOST_EVICTED)
        ]
        async with store.transaction() as tx:
            assert await tx.evict(1, 0) == 10
            assert await tx.evict(1, 0) == 0
        assert await store.counters() == Counters(evicted=MOST_EVICTED + 10)

    async def test_no_more_old_ones_are_evicted_at_once_than_it_says(
        self, store: KeepsQuarantine
    ) -> None:
        entries = [make_entry("1", kept_at=7) for _ in range(MOST_EVICTED + 1)]
        await put_aside(store, *entries, make_entry("2"))
        async with store.transaction() as tx:
            assert await tx.evict(8, entries[0].size * MOST_EVICTED) == MOST_EVICTED
        assert await ids_aside(store) == ["1", "2"]
        async with store.transaction() as tx:
            assert await tx.evict(8, entries[0].size * MOST_EVICTED) == 1

    async def test_entry_larger_than_the_quarantine_goes_as_well(
        self, store: KeepsQuarantine
    ) -> None:
        await put_aside(store, make_entry("1"), make_entry("2", body=b"x" * 1000))
        async with store.transaction() as tx:
            assert await tx.evict(0, 999) == 2
            assert await tx.evict(0, 0) == 0
        assert await store.counters() == Counters(evicted=2)

    async def test_quarantine_is_counted_whatever_is_undone(self, store: KeepsQuarantine) -> None:
        await put_aside(store, make_entry("1"))
        (first,) = (await store.quarantined(QuarantineQuery())).entries
        async with store.transaction() as tx:
            with suppress(Rollback):
                async with tx.savepoint():
                    await tx.drop([first.id])
                    await tx.quarantine([make_entry("2"), make_entry("3")])
                    await tx.evict(0, 0)
                    raise Rollback
            await tx.quarantine([make_entry("4")])
            await tx.count(Counters(invalid=1), {})
        assert tx.counters == Counters(invalid=1, quarantined=2)
        assert await ids_aside(store) == ["1", "4"]
        with suppress(Rollback):
            async with store.transaction() as tx:
                await tx.evict(0, 0)
                raise Rollback
        assert await store.counters() == Counters(invalid=1, quarantined=2)

    async def test_quarantine_is_counted_without_a_call_of_count(
        self, store: KeepsQuarantine
    ) -> None:
        async with store.transaction() as tx:
            await tx.quarantine([make_entry("1"), make_entry("2")])
        assert (await store.counters()).quarantined == 2
