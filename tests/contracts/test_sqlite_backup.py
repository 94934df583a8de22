"""What a copy of the SQLite store is refused for, and proved by."""

import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.cli.backup import backup as run_backup
from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import SettingError, StoreError
from aggregator.store import Backup, Counters, Query, Store
from aggregator.testing import make_event
from aggregator_memory.store import MemoryStore
from aggregator_sqlite import backup
from aggregator_sqlite.store import SqliteStore
from tampering import remove


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store that is open, with three events."""
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    async with store.transaction() as tx:
        await tx.append([make_event(str(number)) for number in range(3)])
        await tx.count(Counters(stored=3), {"logins": Counters(stored=3)})
    yield store
    await store.close()


@pytest.fixture
def beside(store: SqliteStore) -> SqliteStore:
    """The same store, as another process sees it."""
    return SqliteStore(store.url)


async def test_copy_is_a_store_of_its_own(beside: SqliteStore, tmp_path: Path) -> None:
    made = await beside.backup(tmp_path / "copy.db")
    assert made == Backup(3, 3, 3, (tmp_path / "copy.db").stat().st_size)
    copy = SqliteStore(f"sqlite:///{tmp_path}/copy.db")
    assert await copy.key_spec() == DEFAULT_KEY_SPEC
    await copy.open(DEFAULT_KEY_SPEC)
    assert [event.event_id for event in (await copy.events(Query())).events] == ["0", "1", "2"]
    await copy.close()


REFUSED = {
    "there.db": "is there already",
    "dangling.db": "is there already",
    "aggregator.db": "is the store itself",
    "aggregator.db-journal": "a file that belongs to the store",
    "nowhere/copy.db": "there is no folder",
    "x" * 253: "cannot write .*: File name too long",
    "old.db": "old.db-wal belongs to a database that was there before",
}


@pytest.mark.parametrize(("name", "said"), REFUSED.items())
async def test_copy_that_would_do_harm_is_refused(
    beside: SqliteStore, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "there.db").touch()
    (tmp_path / "dangling.db").symlink_to("nothing")
    (tmp_path / "old.db-wal").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SettingError, match=said):
        await beside.backup(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


async def test_what_a_first_start_has_left_is_for_the_service_first(tmp_path: Path) -> None:
    """Its journal is to be rolled back, and who makes a copy changes nothing."""
    path, left = tmp_path / "made.db", tmp_path / "left.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE first (filler)")
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        for _ in range(50):
            db.execute("INSERT INTO first VALUES (randomblob(3000))")
        for end in ("", "-journal"):
            shutil.copyfile(f"{path}{end}", f"{left}{end}")
    with pytest.raises(StoreError, match=r"left\.db: .*start the service once before"):
        await SqliteStore(f"sqlite:///{left}").backup(tmp_path / "copy.db")


async def test_file_system_without_links_takes_copies_too(
    beside: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert (await beside.backup(tmp_path / "copy.db")).events == 3


@pytest.mark.parametrize(
    ("store_class", "url", "said"),
    [
        (MemoryStore, "memory:", "no backup can be made of this one: memory"),
        (SqliteStore, "sqlite:///no/where.db", "there is none yet"),
    ],
)
async def test_there_is_no_copy_of_what_is_no_file(
    store_class: type[Store], url: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=said):
        await run_backup(store_class(url), tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def change(store: SqliteStore, statement: str) -> None:
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute(statement)


DISAGREEING = {
    "INSERT INTO runs VALUES (1, 0, 0, 0, 0, 1, '', 0)": "3 events, 2 keys, 3 stored",
    "UPDATE counters SET stored = 2, checksum = checksum - 3": "3 events, 3 keys, 2 stored",
    "UPDATE counters SET last_seq = 2, checksum = checksum - 29": "last_seq is 2, and event 3",
    "UPDATE counters SET duplicate = 64": "duplicate is 64 and was 0",
    "UPDATE blocks SET first_seq = 9": "the keys of the events from 9 on are damaged",
}


@pytest.mark.parametrize(("statement", "said"), DISAGREEING.items())
async def test_copy_whose_numbers_do_not_agree_is_not_kept(
    store: SqliteStore, beside: SqliteStore, tmp_path: Path, statement: str, said: str
) -> None:
    change(store, statement)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match=said):
        await beside.backup(tmp_path / "copy.db")
    assert sorted(tmp_path.iterdir()) == before


async def test_damaged_copy_is_not_kept(
    beside: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = backup.copy

    def copy_to_a_bad_disk(db: sqlite3.Connection, into: Path) -> None:
        copy(db, into)
        with into.open("r+b") as file:
            file.seek(-4096, os.SEEK_END)
            file.write(bytes(4096))

    monkeypatch.setattr(backup, "copy", copy_to_a_bad_disk)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match=r"copy\.db: .*(damaged|malformed)"):
        await beside.backup(tmp_path / "copy.db")
    assert sorted(tmp_path.iterdir()) == before


async def test_events_removed_by_hand_are_told(
    store: SqliteStore, beside: SqliteStore, tmp_path: Path
) -> None:
    remove(store.path, 2)
    made = await beside.backup(tmp_path / "copy.db")
    assert (made.events, made.stored, made.last_seq) == (2, 3, 3)


async def test_copy_is_read_by_nobody_who_cannot_read_the_store(
    store: SqliteStore, beside: SqliteStore, tmp_path: Path
) -> None:
    for mode in (0o600, 0o640):
        store.path.chmod(mode)
        copy = tmp_path / f"{mode}.db"
        await beside.backup(copy)
        assert copy.stat().st_mode & 0o777 == mode
