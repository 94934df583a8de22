"""A kill while the schema is brought up to date leaves the old one or the new one, whole."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import opening
import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.store import Counters, Query
from aggregator.testing import make_event
from aggregator_sqlite import schema
from aggregator_sqlite.store import SqliteStore
from events import event
from first_release import make_first_release
from running import Service

SCHEMA = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
CALLS = ["pwrite64", "fsync,fdatasync", "ftruncate,unlink"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the service looks for it; not there yet."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "aggregator.db"


@pytest.mark.parametrize("calls", CALLS)
async def test_kill_at_any_call_leaves_one_schema_whole(
    database: Path, service: Service, strace: list[str], calls: str
) -> None:
    found = []
    for version in left_by_kills(database, strace, calls):
        assert tables(database) in (tables_of(version), *converted_if_newest(version))
        await check_opens(database)
        found.append(version)
    assert found == sorted(found)
    assert set(found) == {1, len(schema.STEPS)}
    check_starts(service)


def left_by_kills(database: Path, strace: list[str], calls: str) -> Iterator[int]:
    """The version of the schema after a kill at the first such call, the second, and so on."""
    for number in range(1, 1000):
        shutil.rmtree(database.parent)
        database.parent.mkdir()
        make_first_release(database)
        conduct = f"inject={calls}:signal=KILL:when={number}"
        ended = subprocess.run(
            [
                *(*strace, "-f", "-qq", "-o", "/dev/null", "-e", conduct),
                *(sys.executable, opening.__file__, f"sqlite:///{database}"),
            ],
            check=False,
        )
        yield version_of(database)
        if ended.returncode == 0:
            return
        assert ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


def version_of(database: Path) -> int:
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def tables(database: Path) -> list[tuple[str, ...]]:
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute(SCHEMA).fetchall()
    finally:
        db.close()


def tables_of(version: int) -> list[tuple[str, ...]]:
    """As the steps up to this version make them."""
    db = sqlite3.connect(":memory:")
    for step in schema.STEPS[:version]:
        for statement in step:
            db.execute(statement)
    found = db.execute(SCHEMA).fetchall()
    db.close()
    return found


def converted_if_newest(version: int) -> list[list[tuple[str, ...]]]:
    """The tables of the newest version once no event has a row any more; none before."""
    rows = ("table", "old_events")
    newest = [table for table in tables_of(version) if table[:2] != rows]
    return [newest] if version == len(schema.STEPS) else []


async def check_opens(database: Path) -> None:
    """A start goes on from there, and all that was stored is there once."""
    store = SqliteStore(f"sqlite:///{database}")
    await store.open(DEFAULT_KEY_SPEC)
    try:
        assert [one.event_id for one in (await store.events(Query())).events] == ["1", "2"]
        assert await store.counters() == Counters(stored=2, duplicate=3, topics=1)
        async with store.transaction() as tx:
            (owner,) = await tx.claim([make_event("2").key])
            assert owner
            assert owner.seq == 2
    finally:
        await store.close()
    assert [tables(database)] == converted_if_newest(len(schema.STEPS))


def check_starts(service: Service) -> None:
    service.start()
    assert [one["event_id"] for one in service.stored()] == ["1", "2"]
    result = service.publish(event("3"))[1]["results"][0]
    assert (result["status"], result["seq"]) == ("stored", 3)
