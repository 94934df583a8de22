"""Bits that flip where SQLite keeps how it finds rows: nothing is forgotten in silence."""

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import StoreError
from aggregator.event import Event
from aggregator.store import Content, Counters, FieldIs, KeyOwner, Query
from aggregator.testing import make_event
from aggregator_sqlite import blocks, key_index, read, runs
from aggregator_sqlite.store import SqliteStore
from pages import cells, flip, flips
from small_runs import make_runs_small

LARGER = 0x20  # bit of the first byte of a row: more bytes than there are
SINCE = (1, 40, 100)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    yield store
    await store.close()


def make(count: int, first: int = 0) -> list[Event]:
    return [make_event(str(number)) for number in range(first, first + count)]


async def append(store: SqliteStore, events: list[Event], at_once: int) -> None:
    for first in range(0, len(events), at_once):
        async with store.transaction() as tx:
            await tx.append(events[first : first + at_once])


def keys_of(path: Path, since: int, last: int) -> dict[bytes, int] | None:
    """None if they are said to be damaged."""
    with closing(sqlite3.connect(path)) as db:
        try:
            return {key: seq for key, _, seq in blocks.keys_since(db, since, last)}
        except (StoreError, sqlite3.DatabaseError):
            return None


async def test_bit_that_flips_in_the_tree_of_blocks_hides_no_key(
    store: SqliteStore, tmp_path: Path
) -> None:
    events = make(120)
    await append(store, events, at_once=1)
    await store.close()
    file = store.path.read_bytes()
    flipped = tmp_path / "flipped.db"
    found: Counter[bool] = Counter()
    every = cells(store.path, "blocks")
    assert {cell.is_row for cell in every} == {True, False}
    # Every eighth row will do, and every page of rows.
    for cell in (cell for number, cell in enumerate(every) if not cell.is_row or number % 8 == 0):
        for places in (range(cell.pointer, cell.pointer + 2), range(cell.begin, cell.rowid + 1)):
            for content in flips(file, places):
                flipped.write_bytes(content)
                for since in SINCE:
                    keys = keys_of(flipped, since, len(events))
                    expected = {event.key: n for n, event in enumerate(events, 1) if n >= since}
                    assert keys in (None, expected)
                    found[keys is None] += 1
    assert set(found) == {True, False}


async def test_what_an_operator_has_removed_does_not_count_as_hidden(store: SqliteStore) -> None:
    await append(store, make(9), at_once=1)
    await store.close()
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("DELETE FROM blocks WHERE first_seq IN (1, 4, 5, 9)")
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    async with store.transaction() as tx:
        claimed = await tx.claim([event.key for event in make(9)])
    seqs = [owner.seq if owner else None for owner in claimed]
    assert seqs == [None, 2, 3, None, None, 6, 7, 8, None]


async def damaged_block(store: SqliteStore, patch: pytest.MonkeyPatch) -> None:
    """SQLite cannot read the first block of three; their keys are in runs."""
    make_runs_small(patch, in_memory=2, at_once=10)
    await append(store, make(6), at_once=2)
    await store.close()
    first, *_ = (cell for cell in cells(store.path, "blocks") if cell.is_row)
    flip(store.path, first.begin, 5)
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])


async def test_block_that_cannot_be_read_fails_one_batch_and_no_more(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await damaged_block(store, monkeypatch)
    again = [event.key for event in make(6)]
    with pytest.raises(StoreError, match="the block of event 1 cannot be read"):
        async with store.transaction() as tx:
            await tx.append([make_event("neighbour")])
            await tx.claim(again)
    await store.reopen()
    caplog.clear()
    async with store.transaction() as tx:
        claimed = await tx.claim(again)
        assert await tx.contents([1, 2]) == [Content("", None)] * 2
        assert await tx.append([make_event("neighbour")]) == [7]
    assert claimed[:2] == [KeyOwner(1, b"", 0), KeyOwner(2, b"", 0)]
    assert [owner.seq for owner in claimed[2:] if owner] == [3, 4, 5, 6]
    assert "cannot be read" not in caplog.text


async def test_block_that_cannot_be_read_is_told_once_a_page_and_bounds_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await damaged_block(store, monkeypatch)
    by_field = Query(field=FieldIs("/user", b"sada"))
    assert [event.seq for event in (await store.events(by_field)).events] == [3, 4, 5, 6]
    assert caplog.text.count("cannot be read") == 1
    monkeypatch.setattr(read, "SCANNED", 2)
    page = await store.events(by_field)
    assert (page.events, page.next) == ([], 2)


async def test_page_of_a_run_that_cannot_be_read_fails_one_batch_and_no_more(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_runs_small(monkeypatch, in_memory=200, at_once=1000)
    monkeypatch.setattr(runs, "RUNS_PER_LEVEL", 99)
    await store.index(["/user"])
    await append(store, make(2000), at_once=100)
    await store.close()
    monkeypatch.setattr(runs, "RUNS_PER_LEVEL", 2)
    flip(store.path, cells(store.path, "run_pages")[1].begin, 6)
    await store.open(DEFAULT_KEY_SPEC)
    store._filter.is_complete = True  # as it was when the bit flipped
    failed = 0
    for first in range(2000, 6000, 100):
        try:
            await append(store, make(100, first), at_once=100)
        except StoreError:
            failed += 1
            await store.reopen()
            await append(store, make(100, first), at_once=100)
    assert failed == 1
    assert "keys are looked for in more and more runs: the index of keys is damaged" in caplog.text
    assert [event.seq for event in await store.find(make_event("5999").key, 1)] == [6000]


async def test_reader_that_holds_on_to_older_runs_takes_none_for_damaged(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs_small(monkeypatch, in_memory=4)
    name = make_event("named").key
    async with store.transaction() as tx:
        await tx.append([make_event("0", name=name), *make(3, first=1)])
    find = key_index.KeyIndex.find

    def find_late(one: key_index.KeyIndex, db: sqlite3.Connection, key: bytes) -> int | None:
        with closing(sqlite3.connect(store.path)) as reader:
            monkeypatch.setattr(key_index.KeyIndex, "find", find)
            writer = key_index.KeyIndex(reader, one.key_filter, one.unreadable)
            while writer.read_some(reader):
                pass
            one.state = writer.state
        return find(one, db, key)

    monkeypatch.setattr(key_index.KeyIndex, "find", find_late)
    with closing(sqlite3.connect(store.path)) as db:
        assert store._index
        found = read.find(db, store._index, name, 10, None)
    assert [event.seq for event in found] == [1]


async def test_filter_does_not_grow_when_the_store_is_reopened(store: SqliteStore) -> None:
    await append(store, make(1000), at_once=1000)
    room = store._filter._room
    for _ in range(3):
        await store.reopen()
    assert store._filter._room == room


@pytest.mark.parametrize("bit", [0, 7])
async def test_bit_that_flips_in_the_name_of_a_topic_keeps_no_event_out(
    store: SqliteStore, bit: int
) -> None:
    async def store_it(event_id: str, *topics: str) -> None:
        async with store.transaction() as tx:
            await tx.append([make_event(event_id, topic) for topic in topics])
            one = dict.fromkeys(topics, Counters(stored=1))
            await tx.count(Counters(stored=len(topics)), one)

    await store_it("1", "orders", "users")
    await store.close()
    first = cells(store.path, "topics")[0]
    flip(store.path, store.path.read_bytes().index(b"orders", first.begin), bit)
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    await store_it("2", "users", "orders")
    await store_it("3", "orders")
    assert [event.topic for event in (await store.events(Query())).events] == [
        *("orders", "users", "users", "orders", "orders")
    ]
    assert (await store.counters()).topics == 2
