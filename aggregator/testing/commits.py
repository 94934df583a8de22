"""What every store promises of what is committed, and of what is rolled back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import KeyHeld
from aggregator.store import (
    ConflictingContent,
    Counters,
    History,
    HistoryTransaction,
    KeepsHistory,
    KeepsQuarantine,
    Quarantined,
    QuarantineQuery,
    QuarantineTransaction,
    Query,
    Redelivery,
    Span,
    Store,
    StoredEvent,
    StoreTransaction,
    Topic,
)
from aggregator.testing.making import Rollback, make_entry, make_event, stored

_SOON = 0.05  # seconds in which something that must wait is given the chance not to
_TIMEOUT = 5.0


class _Told(NamedTuple):
    """All that a store tells of what it keeps."""

    events: list[StoredEvent]
    found: list[StoredEvent]
    span: Span
    counters: Counters
    topics: list[Topic]
    histories: list[History]
    quarantined: list[Quarantined]


async def _told(store: Store) -> _Told:
    events = (await store.events(Query())).events
    return _Told(
        events,
        await store.find(make_event("1").key, 10) + await store.find(make_event("new").key, 10),
        await store.span(),
        await store.counters(),
        await store.topics("", 10),
        [await store.history(event.seq, 10) for event in events]
        if isinstance(store, KeepsHistory)
        else [],
        (await store.quarantined(QuarantineQuery())).entries
        if isinstance(store, KeepsQuarantine)
        else [],
    )


async def _fill(store: Store) -> _Told:
    """Keep something of everything; one entry has gone from the quarantine."""
    entries = [make_entry("1"), make_entry("2"), make_entry("3")]
    async with store.transaction() as tx:
        (seq,) = await tx.append([make_event("1")])
        other = ConflictingContent(b"1" * 17, ("/payload",))
        await _see(tx, Redelivery(seq, "tests", 5), Redelivery(seq, "tests", 6, other))
        if isinstance(tx, QuarantineTransaction):
            await tx.quarantine(entries)
            await tx.evict(0, entries[1].size + entries[2].size)
        await tx.count(Counters(1, 1, 1, 2, 3, 4, 5), {"logins": Counters(1, 1, 1)})
    return await _told(store)


async def _change(tx: StoreTransaction, told: _Told) -> None:
    """Add to all that is kept, and take from the quarantine."""
    await tx.append([make_event("new"), make_event("new", "orders")])
    other = ConflictingContent(b"2" * 17, ())
    await _see(tx, Redelivery(told.events[0].seq, "new", 9, other))
    if isinstance(tx, QuarantineTransaction):
        await tx.quarantine([make_entry("new"), make_entry("newer")])
        await tx.drop([told.quarantined[0].id])
        await tx.evict(0, make_entry("newer").size)
    await tx.count(Counters(2, 0, 1), {"logins": Counters(1, 0, 1), "orders": Counters(1)})


async def _see(tx: StoreTransaction, *again: Redelivery) -> None:
    """Record what came again, where that is kept."""
    if isinstance(tx, HistoryTransaction):
        await tx.record(again)


class CommitContract:
    """What every store promises of commits and rollbacks; a part of `StoreContract`."""

    is_durable = True
    """False for a store that says at its start that it forgets."""

    async def test_rolled_back_event_is_not_remembered(self, store: Store) -> None:
        event = make_event("1")
        with pytest.raises(Rollback):
            async with store.transaction() as tx:
                await tx.append([event])
                await tx.count(Counters(stored=1), {"logins": Counters(stored=1)})
                raise Rollback
        assert await store.find(event.key, 10) == []
        assert await store.counters() == Counters()
        assert await store.topics("", 10) == []
        async with store.transaction() as tx:
            assert await tx.claim([event.key]) == [None]

    async def test_nothing_that_is_rolled_back_leaves_a_trace(self, store: Store) -> None:
        before = await _fill(store)
        with suppress(Rollback):
            async with store.transaction() as tx:
                await _change(tx, before)
                raise Rollback
        assert await _told(store) == before
        async with store.transaction() as tx:
            await _see(tx)
        assert await _told(store) == before

    async def test_nothing_that_is_undone_to_a_savepoint_leaves_a_trace(self, store: Store) -> None:
        before = await _fill(store)
        seq = before.events[0].seq
        async with store.transaction() as tx:
            await _see(tx, Redelivery(seq, "before", 7))
            with suppress(Rollback):
                async with tx.savepoint():
                    await _change(tx, before)
                    raise Rollback
            await _see(tx, Redelivery(seq, "after", 8))
            await tx.count(Counters(), {})
        assert tx.counters == before.counters
        after = await _told(store)
        assert after._replace(histories=before.histories) == before
        for history in after.histories:  # where there are any
            assert [seen.source for seen in history.redeliveries] == ["tests", "before", "after"]
            assert history.conflicts == before.histories[0].conflicts

    async def test_change_is_told_to_whoever_waits_for_it(self, store: Store) -> None:
        before = (await store.span()).newest
        waiting = asyncio.create_task(store.changed(before))
        with suppress(Rollback):
            async with store.transaction() as tx:
                await tx.append([make_event("undone")])
                raise Rollback
        done, _ = await asyncio.wait({waiting}, timeout=_SOON)
        assert not done
        (seq,) = await stored(store, make_event("1"))
        async with asyncio.timeout(_TIMEOUT):
            assert await waiting == seq
            assert await store.changed(before) == seq

    async def test_savepoint_is_undone_alone(self, store: Store) -> None:
        async with store.transaction() as tx:
            await tx.append([make_event("before")])
            with suppress(Rollback):
                async with tx.savepoint():
                    await tx.append([make_event("inside")])
                    raise Rollback
            async with tx.savepoint():
                await tx.append([make_event("after")])
        events = (await store.events(Query())).events
        assert [event.event_id for event in events] == ["before", "after"]

    async def test_failed_call_in_a_savepoint_is_undone_with_it(self, store: Store) -> None:
        async with store.transaction() as tx:
            await tx.append([make_event("1")])
            with pytest.raises(KeyHeld):
                async with tx.savepoint():
                    await tx.append([make_event("2")])
                    await tx.append([make_event("1")])
            await tx.append([make_event("3")])
        events = (await store.events(Query())).events
        assert [event.event_id for event in events] == ["1", "3"]

    async def test_what_is_committed_outlives_the_store_object(
        self, store: Store, new_store: Callable[[], Store]
    ) -> None:
        empty = await _told(store)
        newest = max((entry.id for entry in (await _fill(store)).quarantined), default=0)
        if isinstance(store, KeepsQuarantine):
            async with store.transaction() as tx:
                await tx.drop([newest])
        full = await _told(store)
        await store.close()
        again = new_store()
        await again.open(DEFAULT_KEY_SPEC)
        try:
            assert await _told(again) == (full if self.is_durable else empty)
            if self.is_durable:
                await _check_that_it_goes_on(again, full.events[0], newest)
        finally:
            await again.close()


async def _check_that_it_goes_on(store: Store, held: StoredEvent, newest: int) -> None:
    """Keys are held still, and no number is given twice."""
    async with store.transaction() as tx:
        (owner,) = await tx.claim([held.key])
        (seq,) = await tx.append([make_event("2")])
        if isinstance(tx, QuarantineTransaction):
            await tx.quarantine([make_entry("4")])
    assert owner
    assert owner.seq == held.seq < seq
    if isinstance(store, KeepsQuarantine):
        assert (await _told(store)).quarantined[-1].id > newest
