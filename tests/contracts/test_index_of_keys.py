"""The index of keys: derived from the events, made and merged part by part, and never wrong."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import KeyHeld, StoreError, StoreFault
from aggregator.event import Event
from aggregator.store import Counters, KeyOwner
from aggregator.testing import make_event
from aggregator.testing.making import Rollback
from aggregator_sqlite import findings, key_index, read, runs
from aggregator_sqlite.key_index import KeyFilter, KeyIndex, KeysInFile, State
from aggregator_sqlite.runs import Run
from aggregator_sqlite.store import SqliteStore
from small_runs import make_runs_small
from tampering import remove


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_runs_small(monkeypatch, in_memory=200, at_once=300)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    yield store
    await store.close()


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE run_pages (id INTEGER PRIMARY KEY, entries BLOB)")
        yield db


def make(count: int, first: int = 1) -> list[Event]:
    return [make_event(str(number)) for number in range(first, first + count)]


async def claim(store: SqliteStore, events: Sequence[Event]) -> list[KeyOwner | None]:
    async with store.transaction() as tx:
        return await tx.claim([event.key for event in events])


async def append(store: SqliteStore, events: Sequence[Event], at_once: int = 50) -> list[int]:
    seqs: list[int] = []
    for first in range(0, len(events), at_once):
        async with store.transaction() as tx:
            seqs += await tx.append(events[first : first + at_once])
    return seqs


async def seqs_told(store: SqliteStore, events: Sequence[Event]) -> list[int]:
    return [owner.seq if owner else 0 for owner in await claim(store, events)]


def asked(path: Path, statement: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


async def reopened(store: SqliteStore) -> None:
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)


async def warmed_up(store: SqliteStore) -> None:
    assert store._warm_up
    await store._warm_up


async def test_every_key_is_found_wherever_it_is(store: SqliteStore) -> None:
    events = make(5000)
    seqs = await append(store, events)
    levels = {level for (level,) in asked(store.path, "SELECT level FROM runs")}
    assert max(levels) > 1, "some were merged more than once"
    assert await seqs_told(store, events) == seqs == list(range(1, 5001))
    assert not any(await claim(store, make(5000, first=5001)))


async def test_every_key_is_found_after_a_start(store: SqliteStore) -> None:
    events = make(5030)  # the last ones are in no run
    seqs = await append(store, events)
    for _ in range(2):
        await reopened(store)
        assert await seqs_told(store, events) == seqs
        assert not any(await claim(store, make(100, first=9000)))
        await warmed_up(store)
        assert await seqs_told(store, events) == seqs
        assert not any(await claim(store, make(100, first=9000)))


async def test_start_in_the_middle_of_a_merge_loses_no_key(store: SqliteStore) -> None:
    events = make(3000)
    for first in range(0, 3000, 100):
        await append(store, events[first : first + 100])
        await reopened(store)
        await warmed_up(store)
        assert await seqs_told(store, events) == [
            *range(1, first + 101),
            *[0] * (2900 - first),
        ]


async def test_index_is_made_anew_from_the_events(store: SqliteStore) -> None:
    events = make(2500)
    seqs = await append(store, events)
    await store.close()
    asked(store.path, "DELETE FROM runs")
    await store.open(DEFAULT_KEY_SPEC)
    assert await seqs_told(store, events) == seqs
    assert asked(store.path, "SELECT max(upto) > 2000 FROM runs") == [(1,)]


async def test_pages_of_no_run_go_away(store: SqliteStore) -> None:
    await append(store, make(3000))
    await store.close()
    asked(store.path, "DELETE FROM runs")
    before = {run for (run,) in asked(store.path, "SELECT DISTINCT id >> 24 FROM run_pages")}
    await store.open(DEFAULT_KEY_SPEC)
    await append(store, make(3000, first=3001))
    after = {run for (run,) in asked(store.path, "SELECT DISTINCT id >> 24 FROM run_pages")}
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
        owners = await tx.claim([first.key, second.key])
        assert [owner is None for owner in owners] == [False, True]
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
    with monkeypatch.context() as patch, pytest.raises(StoreError, match="IntegrityError"):
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


async def test_nothing_is_committed_after_a_commit_of_unknown_fate(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event,) = make(1)
    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(KeyIndex, "committed", failing_disk)  # what comes right after COMMIT
        await append(store, [event])
    with pytest.raises(StoreError, match="must be read again"):
        async with store.transaction() as tx:
            await tx.count(Counters(), {})
    with pytest.raises(StoreError, match="must be read again"):
        await append(store, [event])
    await store.reopen()
    assert await seqs_told(store, [event]) == [1]


def failing_disk(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


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


DAMAGE = {
    "a fence": "UPDATE runs SET fences = CAST(x'ff' || substr(fences, 2) AS BLOB)",
    "the last fence": "UPDATE runs SET fences = substr(fences, 1, length(fences) - 8)",
    "half a fence": "UPDATE runs SET fences = substr(fences, 1, length(fences) - 1)",
    "what fences are": "UPDATE runs SET fences = 'fences'",
    "where a run ends": "UPDATE runs SET upto = upto + 64",
    "how many keys there are": "UPDATE runs SET entries = entries + 1",
    "the oldest run": "DELETE FROM runs WHERE after = 0",
    "one in between": "DELETE FROM runs WHERE after > 0 AND upto < (SELECT max(upto) FROM runs)",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
async def test_damaged_runs_stop_the_start(store: SqliteStore, statement: str) -> None:
    await append(store, make(1500))
    await store.close()
    asked(store.path, statement)
    with pytest.raises(StoreError, match="the index of keys is damaged"):
        await store.open(DEFAULT_KEY_SPEC)
    asked(store.path, "DELETE FROM runs")
    await store.open(DEFAULT_KEY_SPEC)
    assert await seqs_told(store, make(1500)) == list(range(1, 1501))


async def test_missing_page_hides_no_key(store: SqliteStore) -> None:
    events = make(1000)
    await append(store, events)
    await store.close()
    asked(store.path, "DELETE FROM run_pages WHERE id IN (SELECT (id << 24) + 1 FROM runs)")
    await store.open(DEFAULT_KEY_SPEC)
    await asyncio.sleep(0.1)  # there is nothing to wait for: it is tried again and again
    assert not store._filter.is_complete
    told = [await holders_or_trouble(store, event) for event in events]
    assert None not in told
    assert "damaged" in told


async def test_filter_does_not_grow_while_it_is_tried_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(store, make(1000))
    await store.close()
    asked(store.path, "DELETE FROM run_pages WHERE id = (SELECT min(id) << 24 FROM runs)")
    added: list[int] = []
    add = KeyFilter.add

    def counted(key_filter: KeyFilter, keys: Collection[bytes]) -> None:
        added.append(len(keys))
        add(key_filter, keys)

    monkeypatch.setattr(KeyFilter, "add", counted)
    monkeypatch.setattr(key_index, "_RETRY_AFTER", 0.01)
    tries = count_calls(monkeypatch, key_index, "_read")
    await store.open(DEFAULT_KEY_SPEC)
    while len(tries) < 5:
        await asyncio.sleep(0.01)
    assert 0 < sum(added) < 1000


def count_calls(patch: pytest.MonkeyPatch, module: object, name: str) -> list[None]:
    calls: list[None] = []
    function = getattr(module, name)

    def counting(*given: object) -> object:
        calls.append(None)
        return function(*given)

    patch.setattr(module, name, counting)
    return calls


async def holders_or_trouble(store: SqliteStore, event: Event) -> int | str | None:
    try:
        (owner,) = await claim(store, [event])
    except StoreError:
        return "damaged"
    return owner.seq if owner else None


async def test_runs_are_merged_while_an_index_is_made(store: SqliteStore) -> None:
    await append(store, make(6000), at_once=1000)
    await store.close()
    asked(store.path, "DELETE FROM runs WHERE after >= 1000")
    await store.open(DEFAULT_KEY_SPEC)
    assert max(level for (level,) in asked(store.path, "SELECT level FROM runs")) > 1
    assert await seqs_told(store, make(6000)) == list(range(1, 6001))


async def test_pages_go_after_the_commit_that_replaces_them(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a reader that knows the former runs would take them for damaged."""
    asked_between: list[int | None] = []
    begin = KeyIndex.committed

    def begin_later(index: KeyIndex, state: State) -> None:
        with closing(sqlite3.connect(store.path)) as db:
            asked_between.append(index.state.find(db, events[0].key))
        begin(index, state)

    events = make(4000)
    monkeypatch.setattr(KeyIndex, "committed", begin_later)
    await append(store, events, at_once=1000)
    assert asked_between == [None, 1, 1, 1]  # the first keys are added after their commit


def make_named(count: int, names: int) -> list[Event]:
    """Events of which several have the same name, which is the key of none."""
    shared = [event.key for event in make(names, first=1_000_000)]
    return [
        msgspec.structs.replace(event, name=shared[place % names])
        for place, event in enumerate(make(count))
    ]


async def test_names_are_found_in_memory_in_runs_and_after_a_start(store: SqliteStore) -> None:
    events = make_named(3000, names=40)
    plain = msgspec.structs.replace(make_event("plain"), key=events[7].name)
    await append(store, [*events, plain])
    assert max(level for (level,) in asked(store.path, "SELECT level FROM runs")) > 1
    assert asked(store.path, "SELECT sum(entries) - sum(names) - max(upto) FROM runs") == [(0,)]
    keys_in_file = KeysInFile()
    for _ in range(2):
        for place in range(40):
            seqs = list(range(place + 1, 3001, 40)) + ([3001] if place == 7 else [])
            found = await store.find(events[place].name, 100)
            assert [event.seq for event in found] == seqs
            with closing(sqlite3.connect(store.path)) as reader:
                seen = read.find(reader, keys_in_file, events[place].name, 100, None)
            assert [event.seq for event in seen] == seqs
        assert await seqs_told(store, events) == list(range(1, 3001))
        await store.reopen()
    told = (await store.check()).findings
    assert not any(finding.what.startswith(findings.RUNS.what) for finding in told)


async def test_name_is_not_taken_for_the_key_of_an_event(store: SqliteStore) -> None:
    events = make_named(2000, names=2000)
    await append(store, events)
    others = [msgspec.structs.replace(make_event("other"), key=event.name) for event in events]
    assert await seqs_told(store, others) == [0] * len(others)
    assert await append(store, others, at_once=1000) == list(range(2001, 4001))


async def test_names_of_what_is_undone_are_forgotten(store: SqliteStore) -> None:
    first, second, third = make_named(3, names=1)
    odd = msgspec.structs.replace(second, name=make_event("odd").key)
    async with store.transaction() as tx:
        await tx.append([first])
        with suppress(Rollback):
            async with tx.savepoint():
                await tx.append([odd])
                raise Rollback
        await tx.append([third])
    found = await store.find(first.name, 10)
    assert [(event.seq, event.event_id) for event in found] == [(1, "1"), (2, "3")]
    assert await store.find(odd.name, 10) == []
    entries = store._index.state.entries if store._index else []
    assert [len(some) for some in entries] == [4], "two keys, two names"


@pytest.mark.parametrize("name", [b"short", b"x" * 17, "a text of 16 cha"])
async def test_what_is_no_name_is_not_stored(store: SqliteStore, name: Any) -> None:
    with pytest.raises(StoreFault):
        await append(store, [msgspec.structs.replace(make_event("1"), name=name)])
    assert await append(store, [make_event("1")]) == [1]


async def test_name_that_is_damaged_stops_the_start(store: SqliteStore) -> None:
    await append(store, make_named(3, names=1))
    await store.close()
    asked(store.path, "UPDATE blocks SET names = zeroblob(48)")
    with pytest.raises(StoreError, match="the keys of the events from 1 on are damaged"):
        await store.open(DEFAULT_KEY_SPEC)


async def test_names_beyond_what_is_read_at_once_are_found(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_index, "MOST_NAMED", 7)
    events = make_named(1000, names=3)
    await append(store, events)
    for index in (store._index, KeysInFile()):
        with closing(sqlite3.connect(store.path)) as reader:
            assert index
            found = read.find(reader, index, events[0].name, 500, None)
        assert [event.seq for event in found] == list(range(1, 1001, 3))


async def test_event_that_was_removed_by_hand_is_not_found(store: SqliteStore) -> None:
    (event,) = make(1)
    other = msgspec.structs.replace(make_event("other"), name=event.key)
    await append(store, [event, other])
    assert [found.seq for found in await store.find(event.key, 2)] == [1, 2]
    remove(store.path, 1)
    assert [found.seq for found in await store.find(event.key, 1)] == [2]


async def test_damage_does_not_keep_events_from_being_stored(store: SqliteStore) -> None:
    await append(store, make(400))
    damaged = asked(store.path, "SELECT id FROM runs")
    asked(store.path, "UPDATE run_pages SET entries = zeroblob(length(entries))")
    await append(store, make(4000, first=1001))
    await store.reopen()
    await append(store, make(100, first=9001))
    assert set(damaged) <= set(asked(store.path, "SELECT id FROM runs"))
    assert await seqs_told(store, make(4000, first=1001)) == list(range(401, 4401))


async def test_copy_with_a_damaged_index_is_not_kept(store: SqliteStore, tmp_path: Path) -> None:
    await append(store, make(1000))
    asked(store.path, "UPDATE counters SET stored = 1000, checksum = checksum + 3 * 1000")
    asked(store.path, "DELETE FROM run_pages WHERE id = (SELECT id << 24 FROM runs LIMIT 1)")
    with pytest.raises(StoreError, match="the index of keys is damaged"):
        await SqliteStore(store.url).backup(tmp_path / "copy.db")


async def test_damaged_page_is_told_and_hides_no_key(store: SqliteStore) -> None:
    events = make(1000)
    await append(store, events)
    await store.close()
    asked(store.path, "UPDATE run_pages SET entries = zeroblob(length(entries))")
    await store.open(DEFAULT_KEY_SPEC)
    with pytest.raises(StoreError, match="the index of keys is damaged"):
        await claim(store, events[:1])
    with pytest.raises(StoreError, match="the index of keys is damaged"):
        await store.find(events[0].key, 1)


def test_keys_looked_up_together_read_each_page_once(db: sqlite3.Connection) -> None:
    keys = sorted(os.urandom(16) for _ in range(10 * runs.PER_PAGE))
    run = Run(1)
    run.write(db, runs.sorted_entries({key: seq for seq, key in enumerate(keys, 1)}))
    wanted = sorted([*keys, *(os.urandom(16) for _ in range(1000))])
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    found = run.find_all(db, wanted)
    db.set_trace_callback(None)
    assert found == {key: seq for seq, key in enumerate(keys, 1)}
    assert found == {key: seq for key in wanted if (seq := run.find(db, key))}
    assert len(statements) == len(run.fences)


def test_keys_that_begin_alike_are_all_found(db: sqlite3.Connection) -> None:
    """Where one page ends and the next one begins they may differ only in what no fence shows."""
    alike = [bytes(8) + number.to_bytes(8) for number in range(1, 2 * runs.PER_PAGE)]
    keys = sorted([*alike, *(os.urandom(16) for _ in range(1000)), b"\xff" * 16, bytes(16)])
    run = Run(1)
    run.write(db, runs.sorted_entries({key: seq for seq, key in enumerate(keys, 1)}))
    assert [run.find(db, key) for key in keys] == list(range(1, len(keys) + 1))
    assert run.find(db, b"\xff" * 15 + b"\xfe") is None


def test_key_is_not_found_across_two_entries(db: sqlite3.Connection) -> None:
    first, second = b"\x01" * 16, b"\x02" * 16
    run = Run(1)
    entries = runs.sorted_entries({first: 7, second: 8})
    run.write(db, entries)
    across = b"".join(entries)[4:20]
    assert run.find(db, across) is None
    assert run.find(db, second) == 8


def test_filter_knows_every_key_that_was_added() -> None:
    key_filter = KeyFilter()
    key_filter.reserve(0)
    keys = [os.urandom(16) for _ in range(5000)]
    key_filter.add(keys[:1000])
    key_filter._room = 0
    key_filter.add(keys[1000:])
    key_filter.is_complete = True
    assert set(key_filter.may_hold(keys)) == set(keys)
    others = [os.urandom(16) for _ in range(5000)]
    assert len(key_filter.may_hold(others)) < 100
    key_filter.is_complete = False
    assert key_filter.may_hold(others) is others


def test_index_is_small_beside_its_events() -> None:
    """A page of a run fills one page of the database, and no more."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE run_pages (id INTEGER PRIMARY KEY, entries BLOB)")
        before = db.execute("PRAGMA page_count").fetchone()[0]
        written = 50
        keys = {os.urandom(16): seq for seq in range(written * runs.PER_PAGE)}
        Run(1).write(db, runs.sorted_entries(keys))
        pages = db.execute("PRAGMA page_count").fetchone()[0] - before
    assert written <= pages <= written + 2
