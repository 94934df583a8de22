"""What is promised of the SQLite store alone."""

import fcntl
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from threading import enumerate as enumerate_threads
from time import sleep

import aiosqlite.core
import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import SettingError, StoreError
from aggregator.store import (
    ConflictingContent,
    Counters,
    FieldIs,
    Page,
    QuarantineQuery,
    Query,
    Redelivery,
    RedeliveryStats,
    Span,
)
from aggregator.testing import make_entry, make_event
from aggregator_sqlite import blocks, fields, quarantine, read, runs, schema, sums, write
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.files import WriterLock, sync
from aggregator_sqlite.store import SqliteStore
from killed import COMMITS, Killed
from tampering import empty, remove, spoil


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    yield store
    await store.close()


async def _fill(store: SqliteStore, count: int) -> None:
    async with store.transaction() as tx:
        await tx.append([make_event(str(number)) for number in range(count)])


def test_lock_is_taken_though_others_ask_whether_it_is(tmp_path: Path) -> None:
    asking, taking = (WriterLock(tmp_path / "a.db") for _ in range(2))
    taking.take()
    taking.release()
    is_over = Event()

    def ask() -> None:
        while not is_over.is_set():
            asking.is_held()

    asker = Thread(target=ask)
    asker.start()
    try:
        for _ in range(200):
            taking.take()
            taking.release()
    finally:
        is_over.set()
        asker.join()


async def test_connection_that_fails_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would tell an event loop that is closed by then, which prints a traceback."""

    def slow_down(*_: object) -> None:
        if current_thread() is not main_thread():
            sleep(0.05)

    monkeypatch.setattr(aiosqlite.core.LOG, "debug", slow_down)
    before = workers()
    with pytest.raises(StoreError, match="cannot open"):
        await SqliteThread.connect(str(tmp_path / "no" / "where.db"))
    assert workers() == before


def workers() -> set[Thread]:
    return {thread for thread in enumerate_threads() if "_connection_worker" in thread.name}


async def test_page_looks_at_no_more_than_it_says(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "SCANNED", 10)
    await _fill(store, 25)
    page = await store.events(Query(until=0))
    assert (page.events, page.next) == ([], 10)
    page = await store.events(Query(until=0, after=20))
    assert (page.events, page.next) == ([], None)


@pytest.mark.parametrize(
    "query",
    [
        Query(source="nobody's"),
        Query(topic="logins", source="nobody's"),
        Query(field=FieldIs("/user", b"snobody")),
    ],
)
async def test_events_that_cannot_match_are_passed_over_by_what_is_read(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    monkeypatch.setattr(blocks, "EVENTS_PER_BLOCK", 4)
    await _fill(store, 25)
    monkeypatch.setattr(read, "SCANNED", 1)
    assert await store.events(query) == Page([], None)
    monkeypatch.setattr(read, "READ_BYTES", 1)
    assert await store.events(query) == Page([], 4)


GROWING = (
    "blocks",
    "blocks_by_topic",
    "quarantine",
    "run_pages",
    "fields",
    "redeliveries",
    "conflicting_contents",
)
STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": statement
    for module in (blocks, read, write, quarantine, fields, runs, sums)
    for name, statement in vars(module).items()
    if isinstance(statement, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)\s", statement)
}
WALKS = {
    "quarantine.OLDEST": ["SCAN quarantine"],  # stops at the first that may stay
    "sums.LAST_BLOCK": ["SCAN blocks"],  # stops at the first
    "blocks.ALL_BLOCKS": ["SCAN blocks"],  # at a start, where blocks are missing
}
SORTED = {"read.REDELIVERIES", "read.CONFLICTS_OF", "read.TOPICS"}  # what a limit has cut


async def test_no_statement_scans_what_grows(store: SqliteStore) -> None:
    for name, statement in STATEMENTS.items():
        plan = await _plan(store, statement)
        scans = [step for step in plan if step.startswith("SCAN") and step.split()[1] in GROWING]
        assert scans == WALKS.get(name, []), name
        assert name in SORTED or not any("TEMP B-TREE" in step for step in plan), (name, plan)


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


async def test_full_fsync_is_asked_for_where_there_is_one(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS: an fsync alone leaves what it writes in the disk's cache."""

    def pragmas(db: sqlite3.Connection) -> list[int]:
        asked = ("fullfsync", "checkpoint_fullfsync")
        return [db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in asked]

    assert store._writer
    assert await store._writer.run(pragmas) == [1, 1]
    await store.reopen()
    assert await store._writer.run(pragmas) == [1, 1]
    with (tmp_path / "file").open("wb") as file:
        for full in (fcntl.F_GETFD, -1):  # one that succeeds, one that the file system refuses
            monkeypatch.setattr(fcntl, "F_FULLFSYNC", full, raising=False)
            sync(number := file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync(number)


async def test_store_is_not_proved_while_somebody_else_checkpoints(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one waits for a reader in the middle of its checkpoint, and holds its lock."""
    monkeypatch.setattr("aggregator_sqlite.connection.BUSY_TIMEOUT", 0.2)
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
    await store.open(DEFAULT_KEY_SPEC)
    assert [event.event_id for event in (await store.events(Query())).events] == ["0"]


async def test_database_that_is_cut_off_stops_what_is_told(store: SqliteStore) -> None:
    await _fill(store, 1)
    os.truncate(store.path, 0)
    with pytest.raises(StoreError, match="was cut off"):
        await _fill_more(store)


async def test_reader_that_is_closed_last_leaves_the_log_as_it_is(killed: Killed) -> None:
    """One that may write would copy the log into the database, and remove it."""
    before = killed.contents()
    reader = await SqliteThread.read_only(killed.database)
    assert (await reader.run(read.span)).newest == COMMITS
    await reader.close()
    assert killed.log.exists()
    assert killed.contents() == before


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
        await store.open(DEFAULT_KEY_SPEC)
    assert path.read_bytes() == before


async def test_other_key_spec_stops_the_start(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(Exception, match="every stored event would be new"):
        await store.open("topic,event_id,source")


async def test_new_file_has_the_newest_schema(store: SqliteStore) -> None:
    assert await _by_hand(store, "PRAGMA user_version") == [(len(schema.STEPS),)]
    assert await _by_hand(store, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]


STEP = ("CREATE TABLE added (n)", "INSERT INTO added SELECT stored FROM counters")


async def test_step_that_is_added_is_taken_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(store, 2)
    await store.close()
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, STEP))
    for _ in range(2):
        await store.open(DEFAULT_KEY_SPEC)
        assert await _by_hand(store, "PRAGMA user_version") == [(len(schema.STEPS),)]
        assert await _by_hand(store, "SELECT n FROM added") == [(0,)]
        assert len((await store.events(Query())).events) == 2
        await store.close()


async def test_steps_are_taken_all_or_none(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def contents() -> list[object]:
        with closing(sqlite3.connect(store.path)) as db:
            return [*db.iterdump(), db.execute("PRAGMA user_version").fetchone()]

    await _fill(store, 2)
    await store.close()
    before = await contents()
    broken = ("CREATE TABLE another (n)", "INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, STEP, broken))
    with pytest.raises(StoreError, match="nowhere"):
        await store.open(DEFAULT_KEY_SPEC)
    assert await contents() == before


async def test_file_of_a_newer_release_is_refused_and_left_alone(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, STEP))
        await store.reopen()
    await store.close()
    before = store.path.read_bytes()
    newer = f"schema version {len(schema.STEPS) + 1}.*written by a newer release"
    with pytest.raises(SettingError, match=newer):
        await store.open(DEFAULT_KEY_SPEC)
    with pytest.raises(SettingError, match=newer):
        await store.backup(tmp_path / "copy.db")
    assert store.path.read_bytes() == before


async def test_file_of_an_older_release_is_not_copied(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, STEP))
    with pytest.raises(SettingError, match=r"schema version 1.*when the service is started"):
        await store.backup(tmp_path / "copy.db")


ADA = Query(field=FieldIs("/user", b"sada"))


async def _by_hand(store: SqliteStore, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store.path)) as db, db:
        return db.execute(statement).fetchall()


async def _is_indexed(store: SqliteStore) -> bool:
    return await _by_hand(store, "SELECT pointer FROM pointers WHERE built_to IS NULL") != []


async def test_index_that_was_interrupted_is_built_from_where_it_got(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "EVENTS_PER_BLOCK", 5)
    await _fill(store, 25)
    await store.close()
    monkeypatch.setattr(fields, "BUILT_AT_ONCE", 10)
    looked_at: list[int] = []

    def failing(pointers: fields.Pointers, seq: int, *rest: object) -> Iterator[fields.Entry]:
        if seq == 15 and seq not in looked_at:
            looked_at.append(seq)
            raise sqlite3.OperationalError("killed")
        looked_at.append(seq)
        return whole(pointers, seq, *rest)  # type: ignore[arg-type]

    whole = fields._values
    monkeypatch.setattr(fields, "_values", failing)
    with pytest.raises(StoreError, match="killed"):
        await store.open(DEFAULT_KEY_SPEC)
        await store.index(["/user"])
    await store.close()
    assert not await _is_indexed(store)
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    assert looked_at == [*range(1, 16), *range(11, 26)]
    assert await _is_indexed(store)
    assert len((await store.events(ADA)).events) == 25


async def test_index_is_not_trusted_after_its_removal_was_interrupted(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(store, 5)
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    await store.close()
    monkeypatch.setattr(fields, "REMOVED_AT_ONCE", 2)
    remove_some = fields.remove_some
    parts = iter([True])

    def failing(db: sqlite3.Connection, wanted: list[str]) -> bool:
        if next(parts, None):
            return remove_some(db, wanted)
        raise sqlite3.OperationalError("killed")

    monkeypatch.setattr(fields, "remove_some", failing)
    with pytest.raises(StoreError, match="killed"):
        await store.open(DEFAULT_KEY_SPEC)
        await store.drop_index(["/user"])
    await store.close()
    assert await _by_hand(store, "SELECT count(*) FROM fields") == [(3,)]
    monkeypatch.undo()
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    assert await _by_hand(store, "SELECT count(*) FROM fields") == [(5,)]
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)
    assert await store.indexed() == ["/user"]
    await store.drop_index(["/user"])
    assert await _by_hand(store, "SELECT * FROM fields") == []
    assert await _by_hand(store, "SELECT * FROM pointers") == []


async def test_index_is_kept_up_by_whoever_opens_the_store_without_naming_it(
    store: SqliteStore,
) -> None:
    await store.index(["/user"])
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)
    await _fill(store, 5)
    assert await _is_indexed(store)
    assert len((await store.events(ADA)).events) == 5


async def test_index_is_no_oracle_for_what_the_payload_does_not_say(store: SqliteStore) -> None:
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    await _fill(store, 3)
    spoil(store.path, 1, b'{"user"', b'{"usex"')
    empty(store.path, 2)
    await _by_hand(store, "INSERT INTO fields VALUES (1, CAST('sbob' AS BLOB), 3)")
    assert [event.seq for event in (await store.events(ADA)).events] == [3]
    assert (await store.events(Query(field=FieldIs("/user", b"sbob")))).events == []


async def test_usual_events_cost_no_row_more(store: SqliteStore) -> None:
    await _fill(store, 3)
    for table in ("fields", "conflicting_contents", "quarantine"):
        assert await _by_hand(store, f"SELECT * FROM {table}") == []
    assert await _by_hand(store, "SELECT DISTINCT length(names) FROM blocks") == [(0,)]


async def test_span_and_topics_know_what_was_removed_by_hand(store: SqliteStore) -> None:
    async with store.transaction() as tx:
        await tx.append([make_event("1", "a"), make_event("2", "b"), make_event("3", "b")])
        by_topic = {"a": Counters(stored=1), "b": Counters(stored=2)}
        await tx.count(Counters(stored=3), by_topic)
    remove(store.path, 1)
    assert await store.span() == Span(2, 3)
    a, b = await store.topics("", 10)
    assert (a.name, a.stored, a.first_seq, a.last_seq) == ("a", 1, 1, 1)
    assert (b.name, b.stored, b.first_seq, b.last_seq) == ("b", 2, 2, 3)
    assert await store.find(make_event("1", "a").key, 10) == []
    remove(store.path)
    assert await store.span() == Span(4, 3)
    assert (await store.events(Query())).events == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"logins"', b'"logi\xees"'),
        (b'"logins"', b'"logins\xa2'),
        (b"[", b"{"),
        (b",0,", b",9,"),
        (b'{"user"', b'{"use\xf2"'),
        (b'{"user"', b'{\xa2user"'),
    ],
)
async def test_flipped_bit_hides_nothing_around_it(
    store: SqliteStore, before: bytes, after: bytes
) -> None:
    await _fill(store, 3)
    one, two, three = (await store.events(Query())).events
    spoil(store.path, 2, before, after)
    found = (await store.events(Query())).events
    assert (found[0], found[1].seq, found[2]) == (one, 2, three)
    assert isinstance(found[1].payload, bytes)
    assert (found[1].payload == two.payload) is (b"user" not in before)
    assert (found[1].key, found[1].digest) == (two.key, two.digest)


async def test_flipped_bit_in_quarantine_hides_nothing_around_it(store: SqliteStore) -> None:
    async with store.transaction() as tx:
        await tx.quarantine([make_entry(str(number), headers={"a": "b"}) for number in range(3)])
    await _by_hand(
        store,
        "UPDATE quarantine SET headers = CAST(x'7bff' AS TEXT), reason = 'invalie', "
        "topic = CAST(x'ff' AS TEXT), body = CAST('{}' AS TEXT) WHERE id = 2",
    )
    one, two, three = (await store.quarantined(QuarantineQuery())).entries
    assert (one.headers, two.headers, three.headers) == ({"a": "b"}, {}, {"a": "b"})
    assert two.body == b"{}"


async def test_page_of_quarantine_looks_at_no_more_than_it_says(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "SCANNED", 10)
    async with store.transaction() as tx:
        await tx.quarantine([make_entry(str(number)) for number in range(15)])
    page = await store.quarantined(QuarantineQuery(topic="nobody's"))
    assert (page.entries, page.next) == ([], 10)
    page = await store.quarantined(QuarantineQuery(topic="nobody's", after=10))
    assert (page.entries, page.next) == ([], None)


async def test_second_process_is_told_before_the_key_spec_is_looked_at(store: SqliteStore) -> None:
    with pytest.raises(SettingError, match="in use by process"):
        await SqliteStore(store.url).open("topic,source", replaces=DEFAULT_KEY_SPEC)
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)


async def test_what_comes_again_often_in_one_batch_is_summed(store: SqliteStore) -> None:
    await _fill(store, 2)
    conflicting = ConflictingContent(b"d" * 17, ("/a",))
    again = [
        Redelivery(2, "b", 30),
        Redelivery(1, "a", 20),
        Redelivery(1, "a", 10, conflicting),
        Redelivery(1, "b", 40),
        Redelivery(1, "a", 25),
    ]
    for _ in range(2):
        async with store.transaction() as tx:
            await tx.record(again)
    first, second = await store.history(1, 10), await store.history(2, 10)
    assert first.redeliveries == [
        RedeliveryStats("a", 4, 2, 10, 25),
        RedeliveryStats("b", 2, 0, 40, 40),
    ]
    assert second.redeliveries == [RedeliveryStats("b", 2, 0, 30, 30)]
    assert first.conflicts[0].times == 2
