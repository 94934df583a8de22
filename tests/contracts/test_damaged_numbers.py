"""What is counted up in place has a checksum: a flipped bit in it is told, and stays told."""

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import StoreError
from aggregator.store import ConflictingContent, Counters, QuarantineQuery, Redelivery
from aggregator.testing import make_entry, make_event
from aggregator_sqlite import sums
from aggregator_sqlite.store import SqliteStore

AT = 1_800_000_000_000_000
CLASH = ConflictingContent(b"\x01" * 17, ("/user",))
SAMPLE = {
    "topics": ("stored", "duplicate", "conflict", "first_seq", "first_at", "last_seq", "last_at"),
    "redeliveries": ("duplicates", "conflicts", "first_at", "last_at"),
    "conflicting_contents": ("times", "first_at", "last_at"),
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    for batch in range(3):
        await count_everything(store, batch)
    yield store
    await store.close()


async def count_everything(store: SqliteStore, batch: int) -> None:
    """One of each number, and two that are stored."""
    async with store.transaction() as tx:
        events = [make_event(f"{batch}", topic, received_at=AT + batch) for topic in ("a", "b")]
        first, _ = await tx.append(events)
        again = Redelivery(first, "web", AT - batch)
        await tx.record([again, Redelivery(1, "web", AT + batch, CLASH)])
        await tx.quarantine([make_entry("1"), make_entry("2", kept_at=1)])
        await tx.evict(2, 10**9)
        await tx.drop([1])
        one = Counters(stored=1, duplicate=1, conflict=0)
        every = Counters(2, 2, 1, 1, 1, 1, 1)
        await tx.count(every, {"a": one, "b": one, "none": one})


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


async def kinds(store: SqliteStore) -> str:
    return " | ".join(finding.what for finding in (await store.check()).findings)


async def test_what_is_counted_matches_its_checksum(store: SqliteStore) -> None:
    assert (await store.check()).findings == []
    counted = await store.counters()
    assert min(counted.stored, counted.evicted, counted.quarantined, counted.topics) > 0


async def test_what_is_recorded_out_of_order_matches_its_checksum(store: SqliteStore) -> None:
    """A slow body is recorded after a quick one that came later, and a clock may be set back."""
    times = [AT + late for late in (7, 3, 9, 3, 0, 8, -5)]
    async with store.transaction() as tx:
        (seq,) = await tx.append([make_event("late", "a", received_at=AT)])
        for at in times:
            await tx.record([Redelivery(seq, "web", at), Redelivery(seq, "app", at, CLASH)])
        await tx.append([make_event("earlier", "a", received_at=AT - 9)])
        counted = Counters(stored=2, duplicate=len(times), conflict=len(times))
        await tx.count(counted, {"a": counted})
    history = await store.history(seq, 10)
    seen = [*history.redeliveries, *history.conflicts]
    assert {(one.first_at, one.last_at) for one in seen} == {(min(times), max(times))}
    assert (await store.check()).findings == []


@pytest.mark.parametrize(
    ("column", "bit"),
    [*((column, 7) for column in (*sums.COUNTERS.columns, "checksum")), ("last_seq", 33)],
)
async def test_flipped_bit_in_a_counter_stops_the_start_and_can_be_mended(
    store: SqliteStore, column: str, bit: int
) -> None:
    await store.close()
    with closing(sqlite3.connect(store.path)) as db, db:
        (was,) = db.execute(f"SELECT {column} FROM counters").fetchone()
        db.execute(f"UPDATE counters SET {column} = ?", (was ^ 1 << bit,))
    with pytest.raises(StoreError, match=f"{column} is {was ^ 1 << bit} and was {was}"):
        await store.open(DEFAULT_KEY_SPEC)
    assert f"the counters: {column} is {was ^ 1 << bit} and was {was}" in await kinds(store)
    change(store.path, f"UPDATE counters SET {column} = {was}")
    await store.open(DEFAULT_KEY_SPEC)


async def test_damage_is_told_still_after_more_was_counted(store: SqliteStore) -> None:
    change(store.path, "UPDATE counters SET stored = stored + 64")
    await count_everything(store, 3)
    with pytest.raises(StoreError, match="stored is 72 and was 8"):
        await store.counters()
    with pytest.raises(StoreError, match="stored is 72 and was 8"):
        await store.reopen()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM counters", "there are 0 rows"),
        ("INSERT INTO counters DEFAULT VALUES", "there are 2 rows"),
        ("UPDATE counters SET evicted = 'x'", "no number"),
        ("UPDATE counters SET duplicate = duplicate + 9", "do not match their checksum"),
    ],
)
async def test_counters_that_are_something_else_stop_the_start(
    store: SqliteStore, statement: str, told: str
) -> None:
    change(store.path, statement)
    with pytest.raises(StoreError, match=f"the counters are damaged: .*{told}"):
        await store.reopen()
    assert told in await kinds(store)


async def test_no_seq_is_given_twice_where_the_last_one_is_less_than_what_is_stored(
    store: SqliteStore,
) -> None:
    """Though their checksum is right: of an older page, say, that a disk has brought back."""
    spelled = sums.COUNTERS.into("$less", less={"last_seq": "2"})
    change(
        store.path, f"UPDATE counters SET last_seq = last_seq - 2, checksum = checksum - {spelled}"
    )
    with pytest.raises(StoreError, match="last_seq is 4, and event 6 is stored"):
        await store.reopen()


async def test_number_of_topics_is_held_against_them(store: SqliteStore) -> None:
    change(store.path, "DELETE FROM topics WHERE name = 'b'")
    with pytest.raises(StoreError, match="topics is 2, and there are 1"):
        await store.reopen()


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, names in SAMPLE.items() for column in names]
)
async def test_flipped_bit_in_a_row_is_logged_where_it_is_read_and_told_by_the_check(
    store: SqliteStore, table: str, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(store.path, f"UPDATE {table} SET {column} = {column} + 1024")
    with caplog.at_level(logging.ERROR):
        await store.topics("", 10)
        await store.history(1, 10)
    assert "damaged" in caplog.text
    assert ("the numbers of topics" if table == "topics" else "what came again") in await kinds(
        store
    )


@pytest.mark.parametrize("column", ["topic", "reason", "body", "headers", "detail", "submission"])
async def test_damaged_entry_in_quarantine_is_told(store: SqliteStore, column: str) -> None:
    change(store.path, f"UPDATE quarantine SET {column} = {column} || ' ' WHERE id = 3")
    entries = (await store.quarantined(QuarantineQuery())).entries
    assert [entry.id for entry in entries if entry.is_damaged] == [3]
    assert "entries in quarantine, by id: 3" in await kinds(store)
