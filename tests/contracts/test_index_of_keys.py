"""The index of keys: derived from the events, made and merged part by part, and never wrong."""

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.errors import KeyHeld, StoreError
from aggregator.event import Event
from aggregator.key import RECIPE
from aggregator.store import Holder
from aggregator.testing import make_event
from aggregator.testing.making import Rollback
from aggregator_sqlite import runs
from aggregator_sqlite.known import Known
from aggregator_sqlite.runs import Run
from aggregator_sqlite.store import SqliteStore
from small_runs import make_runs_small


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_runs_small(monkeypatch, in_memory=200, at_once=300)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(RECIPE)
    yield store
    await store.close()


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE leaves (id INTEGER PRIMARY KEY, entries BLOB)")
        yield db


def make(count: int, first: int = 1) -> list[Event]:
    return [make_event(str(number)) for number in range(first, first + count)]


async def claim(store: SqliteStore, events: Sequence[Event]) -> list[Holder | None]:
    async with store.transaction() as tx:
        return await tx.claim([event.key for event in events])


async def append(store: SqliteStore, events: Sequence[Event], at_once: int = 50) -> list[int]:
    seqs: list[int] = []
    for first in range(0, len(events), at_once):
        async with store.transaction() as tx:
            seqs += await tx.append(events[first : first + at_once])
    return seqs


async def seqs_told(store: SqliteStore, events: Sequence[Event]) -> list[int]:
    return [holder.seq if holder else 0 for holder in await claim(store, events)]


def asked(path: Path, statement: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


async def reopened(store: SqliteStore) -> None:
    await store.close()
    await store.open(RECIPE)


async def learned(store: SqliteStore) -> None:
    assert store._learning
    await store._learning


async def test_every_key_is_found_wherever_it_is(store: SqliteStore) -> None:
    events = make(5000)
    seqs = await append(store, events)
    levels = {level for (level,) in asked(store.path, "SELECT level FROM runs")}
    assert {1, 2} < levels, "some were merged more than once"
    assert await seqs_told(store, events) == seqs == list(range(1, 5001))
    assert not any(await claim(store, make(5000, first=5001)))


async def test_every_key_is_found_after_a_start(store: SqliteStore) -> None:
    events = make(5030)  # the last ones are in no run
    seqs = await append(store, events)
    for _ in range(2):
        await reopened(store)
        assert await seqs_told(store, events) == seqs
        assert not any(await claim(store, make(100, first=9000)))
        await learned(store)
        assert await seqs_told(store, events) == seqs
        assert not any(await claim(store, make(100, first=9000)))


async def test_start_in_the_middle_of_a_merge_loses_no_key(store: SqliteStore) -> None:
    events = make(3000)
    for first in range(0, 3000, 100):
        await append(store, events[first : first + 100])
        await reopened(store)
        await learned(store)
        assert await seqs_told(store, events) == [
            *range(1, first + 101),
            *[0] * (2900 - first),
        ]


async def test_index_is_made_anew_from_the_events(store: SqliteStore) -> None:
    events = make(2500)
    seqs = await append(store, events)
    await store.close()
    asked(store.path, "DELETE FROM runs")
    asked(store.path, "UPDATE meta SET indexed_to = 0")
    await store.open(RECIPE)
    assert await seqs_told(store, events) == seqs
    assert asked(store.path, "SELECT indexed_to > 2000 FROM meta") == [(1,)]


async def test_leaves_of_no_run_go_away(store: SqliteStore) -> None:
    await append(store, make(3000))
    await store.close()
    asked(store.path, "DELETE FROM runs")
    asked(store.path, "UPDATE meta SET indexed_to = 0")
    before = {run for (run,) in asked(store.path, "SELECT DISTINCT id >> 24 FROM leaves")}
    await store.open(RECIPE)
    await append(store, make(3000, first=3001))
    after = {run for (run,) in asked(store.path, "SELECT DISTINCT id >> 24 FROM leaves")}
    assert before
    assert not before & after


async def test_rolled_back_key_is_new_again_though_runs_were_made(store: SqliteStore) -> None:
    for number in range(0, 1000, 100):
        with pytest.raises(Rollback):
            async with store.transaction() as tx:
                await tx.append(make(150, first=number))
                raise Rollback
        assert not any(await claim(store, make(150, first=number)))
        await append(store, make(100, first=number))
    assert await seqs_told(store, make(1000, first=0)) == list(range(1, 1001))


async def test_key_of_an_undone_savepoint_is_new_in_the_same_transaction(
    store: SqliteStore,
) -> None:
    first, second = make(2)
    async with store.transaction() as tx:
        await tx.append([first])
        with pytest.raises(Rollback):
            async with tx.savepoint():
                await tx.append([second])
                raise Rollback
        holders = await tx.claim([first.key, second.key])
        assert [holder is None for holder in holders] == [False, True]
        assert await tx.append([second]) == [2]
    assert await seqs_told(store, [first, second]) == [1, 2]


async def test_key_in_a_run_cannot_be_appended_again(store: SqliteStore) -> None:
    events = make(1000)
    await append(store, events)
    for event in (events[0], events[-1]):
        with pytest.raises(KeyHeld):
            async with store.transaction() as tx:
                await tx.append([event])


async def test_failed_commit_is_followed_by_a_reading_of_the_index(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make(400)
    await append(store, events)
    with monkeypatch.context() as patch, pytest.raises(sqlite3.Error):
        patch.setattr(Run, "finish", failing)
        await append(store, make(400, first=401), at_once=400)
        await append(store, make(400, first=801), at_once=400)
    with pytest.raises(StoreError, match="must be read again"):
        await claim(store, events)
    await store.reopen()
    known = [*range(1, 401)]
    assert await seqs_told(store, events) == known
    await append(store, make(400, first=2001))
    assert await seqs_told(store, events) == known


def failing(*_: object) -> None:
    raise sqlite3.IntegrityError


async def test_reader_finds_events_while_runs_are_made_and_merged(store: SqliteStore) -> None:
    events = make(2000)
    for first in range(0, 2000, 50):
        await append(store, events[first : first + 50])
        for event in (events[0], events[first], events[first + 49]):
            (found,) = await store.find(event.key, 10)
            assert found.event_id == event.event_id
    assert await store.find(make_event("another").key, 10) == []


async def test_damaged_leaf_is_told_and_hides_no_key(store: SqliteStore) -> None:
    events = make(1000)
    await append(store, events)
    await store.close()
    asked(store.path, "UPDATE leaves SET entries = zeroblob(length(entries))")
    await store.open(RECIPE)
    with pytest.raises(StoreError, match="the index of keys is damaged"):
        await claim(store, events[:1])
    await learned(store)
    with pytest.raises(StoreError, match="the index of keys is damaged"):
        await store.find(events[0].key, 1)


def test_keys_that_begin_alike_are_all_found(db: sqlite3.Connection) -> None:
    """Where one leaf ends and the next one begins they may differ only in what no fence shows."""
    alike = [bytes(8) + number.to_bytes(8) for number in range(1, 2 * runs.PER_LEAF)]
    keys = sorted([*alike, *(os.urandom(16) for _ in range(1000)), b"\xff" * 16, bytes(16)])
    run = Run(1, 0)
    run.write(db, [runs.entry(key, seq) for seq, key in enumerate(keys, 1)])
    assert [run.find(db, key) for key in keys] == list(range(1, len(keys) + 1))
    assert run.find(db, b"\xff" * 15 + b"\xfe") is None


def test_key_is_not_found_across_two_entries(db: sqlite3.Connection) -> None:
    first, second = b"\x01" * 16, b"\x02" * 16
    run = Run(1, 0)
    run.write(db, [runs.entry(first, 7), runs.entry(second, 8)])
    across = (runs.entry(first, 7) + runs.entry(second, 8))[4:20]
    assert run.find(db, across) is None
    assert run.find(db, second) == 8


def test_filter_knows_every_key_that_was_added() -> None:
    known = Known()
    known.reserve(0)
    keys = [os.urandom(16) for _ in range(5000)]
    known.add(keys[:1000])
    known._room = 0
    known.add(keys[1000:])
    known.is_complete = True
    assert set(known.may_hold(keys)) == set(keys)
    others = [os.urandom(16) for _ in range(5000)]
    assert len(known.may_hold(others)) < 100
    known.is_complete = False
    assert known.may_hold(others) is others


def test_index_is_small_beside_its_events() -> None:
    """A leaf fills one page, and no more."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE leaves (id INTEGER PRIMARY KEY, entries BLOB)")
        before = db.execute("PRAGMA page_count").fetchone()[0]
        leaves = 50
        entries = [runs.entry(os.urandom(16), seq) for seq in range(leaves * runs.PER_LEAF)]
        Run(1, 0).write(db, entries)
        pages = db.execute("PRAGMA page_count").fetchone()[0] - before
    assert leaves <= pages <= leaves + 2
