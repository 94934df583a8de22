"""A SQLite store that is only read: it makes no file, and is right beside one who writes."""

import io
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from random import Random

import pytest
from images import Image, journalled

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import KeySpecDiffers, SettingError, StoreError
from aggregator.store import Query
from aggregator.testing import make_event
from aggregator_sqlite import key_index
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.store import SqliteStore
from aggregator_sqlite.wal import commits_not_checkpointed
from killed import COMMITS, Killed

Opening = Callable[[SqliteStore, str], Awaitable[None]]


def url(database: Path) -> str:
    return f"sqlite:///{database}"


@asynccontextmanager
async def _opened(open_it: Opening, database: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(url(database))
    await open_it(store, DEFAULT_KEY_SPEC)
    try:
        yield store
    finally:
        await store.close()


writing = partial(_opened, SqliteStore.open)
reading = partial(_opened, SqliteStore.open_read_only)


async def append(store: SqliteStore, *ids: str) -> None:
    async with store.transaction() as tx:
        events = [make_event(each) for each in ids]
        await tx.claim([event.key for event in events])
        await tx.append(events)


async def ids(store: SqliteStore) -> list[str]:
    return [event.event_id for event in (await store.events(Query(limit=1000))).events]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "aggregator.db"


async def test_stopped_store_is_read_without_making_a_file(database: Path) -> None:
    async with writing(database) as store:
        await append(store, "1", "2")
    before = {path: path.read_bytes() for path in database.parent.iterdir()}
    async with reading(database) as store:
        assert await ids(store) == ["1", "2"]
        assert len(await store.find(make_event("2").key, 10)) == 1
        assert names(database.parent) == {path.name for path in before}
        with pytest.raises(StoreError):
            await append(store, "3")
    assert {path: path.read_bytes() for path in database.parent.iterdir()} == before


async def test_service_that_starts_writing_meanwhile_is_read_too(database: Path) -> None:
    async with writing(database) as store:
        await append(store, "1")
    async with reading(database) as reader:
        async with writing(database) as store:
            await append(store, "2")
            assert await ids(reader) == ["1", "2"]
            await append(store, "3")
            assert await reader.changed(2) == 3
            assert [event.seq for event in await reader.find(make_event("3").key, 10)] == [3]
        assert await ids(reader) == ["1", "2", "3"]
        async with writing(database) as store:
            await append(store, "4")
            await store.reopen()
            await append(store, "5")
        assert await ids(reader) == ["1", "2", "3", "4", "5"]


async def test_keys_are_found_while_another_process_merges_their_runs(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_index, "KEYS_IN_MEMORY", 5)
    async with writing(database) as store, reading(database) as reader:
        for first in range(0, 200, 7):
            await append(store, *(f"{number}" for number in range(first, first + 7)))
            for number in (0, first // 2, first + 6):
                (found,) = await reader.find(make_event(f"{number}").key, 10)
                assert found.seq == number + 1
        assert await reader.find(make_event("never").key, 10) == []


async def test_killed_store_is_read_with_its_log_and_left_as_it_is(killed: Killed) -> None:
    before = killed.contents()
    async with reading(killed.database) as store:
        assert len(await ids(store)) == COMMITS
        assert store.about().endswith(", read only")
    assert killed.contents() == before
    async with writing(killed.database) as store:
        assert len(await ids(store)) == COMMITS


async def test_commits_that_cannot_be_shown_are_counted(
    killed: Killed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the index of the log can be neither read nor made."""

    async def failing(_: Path) -> SqliteThread:
        raise StoreError("unable to open database file")

    monkeypatch.setattr(SqliteThread, "read_only", failing)
    before = killed.contents()
    async with reading(killed.database) as store:
        assert await ids(store) == []
        hidden_commits = store._read_only.hidden if store._read_only else 0
        assert hidden_commits in (COMMITS, COMMITS + 1)  # one that proved the store, perhaps
        assert store.about().endswith(f", read only, without {hidden_commits} commits in its log")
    assert f"{hidden_commits} commits in the log are not shown" in caplog.text
    assert killed.contents() == before


def test_hidden_commits_are_those_that_sqlite_does_not_show_without_the_log(
    tmp_path: Path,
) -> None:
    random = Random(7)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        with journalled(folder) as made:
            for _ in range(random.randrange(1, 8)):
                made.commit(random.randrange(4))
            if random.randrange(3):
                made.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            for _ in range(random.randrange(6)):
                made.commit(random.randrange(4))
            image = made.image()
        assert hidden(image) == commits(folder, image) - commits(folder, image.with_log(b""))


def test_file_between_two_commits_is_told(tmp_path: Path) -> None:
    """A checkpoint was cut off; or a reader kept it from the newest version of some page."""
    with journalled(tmp_path) as made:
        before = made.commit(4)
        reader = sqlite3.connect(made.path, isolation_level=None)
        reader.execute("BEGIN").execute("SELECT * FROM commits").fetchone()
        made.commit(0)
        made.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        kept = made.image()
        reader.close()
        made.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        after = made.image()
    assert [hidden(image) for image in (before, kept, after)] == [1, None, 0]
    half = len(before.database) // 2
    torn = after.database[:half] + before.database[half:]
    assert hidden(Image(torn, after.log)) is None


def hidden(image: Image) -> int | None:
    return commits_not_checkpointed(
        io.BytesIO(image.log), io.BytesIO(image.database), lambda: image.page_size
    )


def commits(folder: Path, image: Image) -> int:
    path = folder / "shown.db"
    for end, content in (("", image.database), ("-wal", image.log)):
        path.with_name(path.name + end).write_bytes(content)
    path.with_name("shown.db-shm").unlink(missing_ok=True)
    shown = "immutable=1" if not image.log else "mode=ro"
    with closing(sqlite3.connect(f"file:{path}?{shown}", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM commits").fetchone()[0])


async def test_what_cannot_be_read_is_said(database: Path) -> None:
    store = SqliteStore(url(database))
    with pytest.raises(SettingError, match="there is none yet"):
        await store.open_read_only(DEFAULT_KEY_SPEC)
    assert not database.parent.exists()
    async with writing(database):
        pass
    with pytest.raises(KeySpecDiffers):
        await store.open_read_only("topic,source")
    await store.close()


async def test_lost_or_damaged_log_is_told_and_the_rest_is_read(
    killed: Killed, caplog: pytest.LogCaptureFixture
) -> None:
    killed.flip(killed.first_frame(11) + 1000)
    before = killed.contents()
    async with reading(killed.database) as store:
        assert len(await ids(store)) == 10
    assert "about 10 commits behind byte" in caplog.text
    assert killed.contents() == before
    killed.log.unlink()
    async with reading(killed.database) as store:
        assert await ids(store) == []
    assert "the log is missing" in caplog.text
