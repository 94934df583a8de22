"""What is promised of the SQLite store alone."""

import os
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event, Thread

import pytest

from aggregator.errors import StoreError
from aggregator.key import RECIPE
from aggregator.store import Query
from aggregator.testing import make_event
from aggregator_sqlite import fields, history, quarantine, reading, scan, writing
from aggregator_sqlite.store import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(RECIPE)
    yield store
    await store.close()


async def _fill(store: SqliteStore, count: int) -> None:
    async with store.transaction() as tx:
        await tx.append([make_event(str(number)) for number in range(count)])


async def test_page_looks_at_no_more_than_it_says(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "SCANNED", 10)
    await _fill(store, 25)
    page = await store.events(Query(source="nobody's"))
    assert (page.events, page.next) == ([], 10)
    page = await store.events(Query(source="nobody's", after=20))
    assert (page.events, page.next) == ([], None)


GROWING = ("events", "quarantine", "keys", "names", "fields", "sightings", "clashes")
STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": statement
    for module in (reading, scan, writing, history, quarantine, fields)
    for name, statement in vars(module).items()
    if name.isupper() and isinstance(statement, str)
}
SORTED = {"history.SIGHTINGS", "history.CLASHES_OF", "reading.TOPICS"}  # what a limit has cut


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_scans_what_grows(store: SqliteStore, name: str) -> None:
    plan = await _plan(store, STATEMENTS[name])
    is_walk = name == "quarantine.OLDEST"  # stops at the first that may stay
    scanned = [step for step in plan if step.startswith("SCAN") and step.split()[1] in GROWING]
    assert scanned == ["SCAN quarantine"] * is_walk
    assert name in SORTED or not any("TEMP B-TREE" in step for step in plan), plan


async def _plan(store: SqliteStore, statement: str) -> list[str]:
    def explain(db: sqlite3.Connection) -> list[str]:
        names = set(re.findall(r":([a-z_]+)", statement))
        values = dict.fromkeys(names, 1) if names else (1,) * statement.count("?")
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]

    assert store._writer
    return await store._writer.run(explain)


async def test_commit_is_durable_before_it_is_told(store: SqliteStore) -> None:
    def pragmas(db: sqlite3.Connection) -> tuple[str, int]:
        mode = db.execute("PRAGMA journal_mode").fetchone()[0]
        return mode, db.execute("PRAGMA synchronous").fetchone()[0]

    assert store._writer
    assert await store._writer.run(pragmas) == ("wal", 2)


async def test_store_is_not_proved_while_somebody_else_checkpoints(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one waits for a reader in the middle of its checkpoint, and holds its lock."""
    monkeypatch.setattr("aggregator_sqlite.writer.BUSY_TIMEOUT", 0.2)
    await _fill(store, 1)
    reader = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN").execute("SELECT count(*) FROM events").fetchall()
    await _fill_more(store)
    is_over = Event()

    def checkpoint() -> None:
        other = sqlite3.connect(store.path, timeout=30)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        is_over.set()

    thread = Thread(target=checkpoint)
    thread.start()
    try:
        assert not is_over.wait(0.3)
        with pytest.raises(StoreError, match=r"another connection|is locked"):
            await store.reopen()
    finally:
        reader.close()
        thread.join()
    await store.reopen()


async def _fill_more(store: SqliteStore) -> None:
    async with store.transaction() as tx:
        await tx.append([make_event("later")])


async def test_database_that_is_gone_is_not_made_anew(store: SqliteStore) -> None:
    await _fill(store, 1)
    moved = store.path.rename(store.path.with_name("elsewhere.db"))
    with pytest.raises(StoreError, match="is gone"):
        await _fill_more(store)
    with pytest.raises(StoreError, match="is gone"):
        await store.reopen()
    assert not store.path.exists()
    moved.rename(store.path)
    await store.reopen()
    await _fill_more(store)


async def test_log_that_is_gone_stops_what_is_told(store: SqliteStore) -> None:
    await _fill(store, 1)
    store.path.with_name(store.path.name + "-wal").unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match="wal is gone"):
            await _fill_more(store)
        with pytest.raises(StoreError, match="wal is gone"):
            await store.reopen()
    # What the log held is not lost yet: closing the file writes it where it belongs.
    await store.close()
    await store.open(RECIPE)
    assert [event.event_id for event in (await store.events(Query())).events] == ["0"]


async def test_database_that_is_cut_off_stops_what_is_told(store: SqliteStore) -> None:
    await _fill(store, 1)
    os.truncate(store.path, 0)
    with pytest.raises(StoreError, match="was cut off"):
        await _fill_more(store)


async def test_readers_go_on_while_the_writer_is_mended(store: SqliteStore) -> None:
    await _fill(store, 1)
    await store._close_writer()
    assert (await store.counters()).stored == 0
    assert len((await store.events(Query())).events) == 1


async def test_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (n)")
    db.close()
    before = path.read_bytes()
    store = SqliteStore(f"sqlite:///{path}")
    with pytest.raises(Exception, match="of another program"):
        await store.open(RECIPE)
    assert path.read_bytes() == before


async def test_other_recipe_stops_the_start(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(Exception, match="every stored event would be new"):
        await store.open("topic,event_id,source")
