"""How seldom a transaction goes to the writer's thread, and that nothing is lost by waiting."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import KeyHeld, StageFault, StoreError
from aggregator.event import Event
from aggregator.outcome import Stored
from aggregator.pipeline.runner import NamedStage, StageRunner
from aggregator.stage import BatchStage
from aggregator.store import Counters, Query, Redelivery
from aggregator.testing import make_event
from aggregator.testing.making import Rollback, make_entry
from aggregator.transaction import Transaction, UnitOfWork
from aggregator_sqlite import blocks, key_index, quarantine
from aggregator_sqlite.connection import MultiRowStatement
from aggregator_sqlite.key_index import KeyFilter
from aggregator_sqlite.store import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    yield store
    await store.close()


def hops(store: SqliteStore, patch: pytest.MonkeyPatch) -> list[object]:
    """What the writer's thread is asked from now on."""
    assert store._writer
    made: list[object] = []
    submit = store._writer.submit

    def counted(function: object, *args: object) -> object:
        made.append(function)
        return submit(function, *args)  # type: ignore[arg-type]

    patch.setattr(store._writer, "submit", counted)
    return made


async def test_batch_of_new_events_takes_one_hop(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hops(store, monkeypatch)
    for first in (0, 5):
        events = [make_event(str(number)) for number in range(first, first + 5)]
        async with store.transaction() as tx:
            assert await tx.claim([event.key for event in events]) == [None] * 5
            assert await tx.append(events) == list(range(first + 1, first + 6))
            await tx.count(Counters(stored=5), {"logins": Counters(stored=5)})
        assert tx.counters == await store.counters() == Counters(stored=first + 5, topics=1)
    assert len(made) == 2


async def test_transaction_that_only_asks_for_new_keys_takes_none(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hops(store, monkeypatch)
    async with store.transaction() as tx:
        await tx.claim([make_event("1").key])
    with suppress(Rollback):
        async with store.transaction() as tx:
            await tx.append([make_event("1")])
            raise Rollback
    assert made == []
    assert await store.find(make_event("1").key, 10) == []


async def test_batch_of_new_events_is_handed_over_before_anything_else_runs(
    store: SqliteStore,
) -> None:
    event = make_event("1")
    ran: list[str] = []
    async with asyncio.timeout(5) as limit, store.transaction() as tx:
        lent = Transaction(UnitOfWork(tx), limit, "stage")
        asyncio.get_running_loop().call_soon(ran.append, "something else")
        assert await lent.claim([event.key]) == [None]
        assert await lent.append([event]) == [1]
        assert ran == []
        with pytest.raises(KeyHeld):
            await lent.append([event])
        assert ran == ["something else"], "it was looked for"


async def test_stage_that_has_answered_stores_nothing_more(store: SqliteStore) -> None:
    async with asyncio.timeout(5) as limit, store.transaction() as tx:
        lent = Transaction(UnitOfWork(tx), limit, "stage")
        await lent.end()
        with pytest.raises(StageFault, match="after it had answered"):
            await lent.append([make_event("1")])
    assert (await store.events(Query())).events == []


async def test_key_that_only_seems_to_be_known_is_new(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyFilter, "may_hold", lambda _, keys: keys)
    first, second = make_event("1"), make_event("2")
    async with store.transaction() as tx:
        assert await tx.claim([first.key, second.key]) == [None, None]
        assert await tx.append([first]) == [1]
        owner, nobody = await tx.claim([first.key, second.key])
        assert owner
        assert (owner.seq, owner.digest, nobody) == (1, first.digest, None)
        with pytest.raises(KeyHeld):
            await tx.append([second, first])
        assert await tx.append([second]) == [2]
    assert [event.seq for event in await store.find(second.key, 10)] == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "\ud800"},
        {"received_at": 2**63},
        {"name": ("no", "bytes")},
        {"topic": 5},
        {"key": b"short"},
        {"digest": b"short"},
    ],
    ids=str,
)
async def test_event_that_cannot_be_written_is_refused_where_it_is_appended(
    store: SqliteStore, wrong: dict[str, Any]
) -> None:
    good, bad = make_event("1"), replace(make_event("2"), **wrong)
    async with store.transaction() as tx:
        with pytest.raises(StoreError):
            await tx.append([good, bad])
        assert await tx.append([good]) == [1]
    assert await store.find(bad.key, 10) == []
    assert [event.seq for event in await store.find(good.key, 10)] == [1]


async def test_what_waits_is_written_before_what_is_asked(store: SqliteStore) -> None:
    event = make_event("1")
    async with store.transaction() as tx:
        (seq,) = await tx.append([event])
        await tx.record([Redelivery(seq, "tests", 5)])
        await tx.quarantine([make_entry("1"), make_entry("2")])
        assert await tx.evict(0, 0) == 2
        (content,) = await tx.contents([seq])
        assert content.payload == event.payload
        await tx.count(Counters(), {})
    assert (tx.counters.quarantined, tx.counters.evicted) == (0, 2)
    assert (await store.history(seq, 10)).redeliveries


async def test_trouble_with_what_waits_fails_the_commit_and_is_named(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "TAKE_IDS", "SELECT missing")
    with pytest.raises(StoreError, match="add: no such column: missing"):
        async with store.transaction() as tx:
            await tx.append([make_event("1")])
            await tx.quarantine([make_entry("1")])
    monkeypatch.undo()
    await store.reopen()
    assert await store.find(make_event("1").key, 10) == []
    async with store.transaction() as tx:
        assert await tx.append([make_event("1")]) == [1]


async def test_nothing_is_committed_once_something_that_waited_has_failed(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        blocks, "ADD_TO_TOPICS", MultiRowStatement("INSERT INTO blocks_by_topic (wrong) VALUES (?)")
    )
    with pytest.raises(StoreError, match="append: "):
        async with store.transaction() as tx:
            async with tx.savepoint():
                await tx.append([make_event("1", name=b"n" * 16)])
            with suppress(StoreError):
                async with tx.savepoint():
                    await tx.contents([1])
            async with tx.savepoint():
                await tx.append([make_event("2")])
    await store.reopen()
    assert (await store.events(Query())).events == []


async def test_transaction_cancelled_twice_tells_nobody_that_its_keys_are_new(
    store: SqliteStore,
) -> None:
    assert store._writer
    is_held = threading.Event()
    event = make_event("1")

    async def store_it() -> None:
        async with store.transaction() as tx:
            await tx.append([event])

    holding = asyncio.create_task(store._writer.run(lambda _: is_held.wait(10)))
    storing = asyncio.create_task(store_it())
    for _ in range(2):
        await asyncio.sleep(0.05)
        storing.cancel()
    with suppress(asyncio.CancelledError):
        await storing
    with pytest.raises(StoreError):
        await store_it()
    is_held.set()
    await holding
    with pytest.raises(KeyHeld):
        while True:
            with suppress(StoreError):
                await store_it()
            await asyncio.sleep(0.01)
    assert [found.seq for found in (await store.events(Query())).events] == [1]


async def test_nobody_waits_with_a_commit_that_waits_for_a_lock(store: SqliteStore) -> None:
    async def store_it() -> None:
        async with store.transaction() as tx:
            await tx.append([make_event("1")])

    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        storing = asyncio.create_task(store_it())
        await asyncio.sleep(0.1)
        assert not storing.done()
        assert (await store.events(Query())).events == []
        other.execute("ROLLBACK")
    await storing
    assert [found.seq for found in (await store.events(Query())).events] == [1]


async def test_key_that_was_committed_and_could_not_be_added_is_new_to_nobody(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(*_: object) -> list[bytes]:
        raise MemoryError

    async def store_it() -> None:
        async with store.transaction() as tx:
            await tx.append([make_event("1")])

    monkeypatch.setattr(key_index, "sorted_entries", without_memory)
    with pytest.raises(StoreError, match="MemoryError"):
        await store_it()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="must be read again"):
        await store_it()
    await store.reopen()
    with pytest.raises(KeyHeld):
        await store_it()
    assert [found.seq for found in (await store.events(Query())).events] == [1]


class Hasty(BatchStage):
    """Does not wait for what it has asked for; fails, or says that it has done its work."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        appending = asyncio.create_task(tx.append(events))
        await asyncio.sleep(0)
        assert not appending.done()
        if self.error:
            raise self.error
        for seq, event in enumerate(events, 1):
            event.settle(Stored(seq))
        return []


@pytest.mark.parametrize("error", [None, ValueError("at once")], ids=str)
async def test_stage_that_does_not_wait_for_its_calls_fails_and_stores_nothing(
    store: SqliteStore, error: Exception | None
) -> None:
    store._filter.is_complete = False  # so that keys have to be looked for
    line = StageRunner([NamedStage("hasty", Hasty(error))], 5, print)
    said = "at once" if error else "while a call of its transaction was under way"
    with pytest.raises(StageFault, match=f"hasty: .*{said}"):
        async with store.transaction() as tx, tx.savepoint():
            await line.run([make_event("1")], UnitOfWork(tx))
    assert (await store.events(Query())).events == []
    async with store.transaction() as tx:
        assert await tx.append([make_event("1")]) == [1]


async def test_calls_beside_each_other_store_a_key_once(store: SqliteStore) -> None:
    store._filter.is_complete = False
    event, others = make_event("1"), [make_event(str(number)).key for number in range(2, 2000)]
    async with asyncio.timeout(5) as limit, store.transaction() as tx:
        lent = Transaction(UnitOfWork(tx), limit, "stage")
        await asyncio.gather(lent.append([event]), lent.claim([event.key, *others]))
        with pytest.raises(KeyHeld):
            await lent.append([event])
    assert [found.seq for found in (await store.events(Query())).events] == [1]


async def test_transaction_that_is_over_appends_nothing(store: SqliteStore) -> None:
    async with store.transaction() as tx:
        await tx.append([make_event("1")])
    with pytest.raises(StoreError, match="is over"):
        await tx.append([make_event("2")])
    with suppress(Rollback):
        async with store.transaction() as tx:
            raise Rollback
    with pytest.raises(StoreError, match="is over"):
        await tx.append([make_event("2")])
    assert [found.seq for found in (await store.events(Query())).events] == [1]


async def test_call_that_outlives_its_pipeline_tells_what_went_wrong(store: SqliteStore) -> None:
    def fail() -> None:
        assert over.wait(5)
        raise StoreError("the disk is gone")

    over = threading.Event()
    async with store.transaction() as tx:
        async with asyncio.timeout(5) as limit:
            call = asyncio.create_task(Transaction(UnitOfWork(tx), limit, "stage").aside(fail))
            await asyncio.sleep(0)
        over.set()
        with pytest.raises(StoreError, match="the disk is gone"):
            await call
