"""A log that was lost after an unclean end stops the start; one that never was does not."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from power.promises import Examiner
from power.recording import Recording

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import SettingError, StoreError
from aggregator_sqlite import store as sqlite_store
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.store import SqliteStore
from events import event
from killed import COMMITS, LENGTH, Killed
from running import Service, aggregator

ACCEPT = ("check", "--accept-missing-log")
HEADER = 32  # bytes of the log's header


@pytest.fixture
def service(killed: Killed) -> Iterator[Service]:
    """On what the killed one left; not started yet."""
    with Service(killed.folder) as service:
        yield service


def is_marked(database: Path) -> bool:
    """Whether the mark stands in the file itself, whatever is in the log."""
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as db:
        return bool(db.execute("SELECT needs_log FROM meta").fetchone()[0])


def zeros(log: Path) -> None:
    """What some file systems leave where they had the size on the disk, and not the bytes."""
    log.write_bytes(bytes(log.stat().st_size))


LOSSES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda log: log.write_bytes(b""),
    "header alone": lambda log: log.write_bytes(log.read_bytes()[:HEADER]),
    "half a frame": lambda log: log.write_bytes(log.read_bytes()[: HEADER + LENGTH // 2]),
    "zeros": zeros,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_log_that_was_lost_stops_the_start_until_the_loss_is_accepted(
    killed: Killed, service: Service, lose: Callable[[Path], object]
) -> None:
    lose(killed.log)
    before = killed.contents()
    for command in (["serve", "--port", "0"], ["backup", "copy.db"], ["drop-index"]):
        refused = aggregator(killed.folder, *command)
        assert refused.returncode == 2, refused
        assert f"{killed.log} is missing or empty" in refused.stderr
        assert "aggregator check --accept-missing-log" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert killed.contents() == before
    accepted = aggregator(killed.folder, *ACCEPT)
    assert accepted.returncode == 0, accepted
    assert "up to seq 0" in accepted.stdout
    service.start()
    sent = [event(str(number)) for number in range(1, COMMITS + 1)]
    assert service.publish(sent)[1]["stored"] == COMMITS
    assert service.stop() == 0


def test_log_that_is_put_back_loses_nothing(killed: Killed, service: Service) -> None:
    away = killed.log.rename(killed.folder / "away")
    assert aggregator(killed.folder, "serve", "--port", "0").returncode == 2
    away.rename(killed.log)
    service.start()
    assert len(service.stored()) == COMMITS


def test_nothing_is_accepted_where_no_log_is_missing(killed: Killed, service: Service) -> None:
    before = killed.contents()
    accepted = aggregator(killed.folder, *ACCEPT)
    assert "no log is missing" in accepted.stdout, accepted
    assert killed.contents() == before
    service.start()
    assert "in use by" in aggregator(killed.folder, *ACCEPT).stderr
    assert len(service.stored()) == COMMITS


def test_log_that_another_program_has_copied_into_the_file_is_missed_and_nothing_is_lost(
    killed: Killed, service: Service
) -> None:
    """Nothing in the file tells that from a loss."""
    with closing(sqlite3.connect(killed.database)) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (COMMITS,)
    assert not killed.log.exists()
    assert aggregator(killed.folder, "serve", "--port", "0").returncode == 2
    assert f"up to seq {COMMITS}" in aggregator(killed.folder, *ACCEPT).stdout
    service.start()
    assert len(service.stored()) == COMMITS


async def test_file_is_marked_from_the_start_to_a_clean_close(tmp_path: Path) -> None:
    database = tmp_path / "aggregator.db"
    for _ in range(2):
        store = SqliteStore(f"sqlite:///{database}")
        await store.open(DEFAULT_KEY_SPEC)
        assert is_marked(database)
        await store.reopen()
        assert is_marked(database)
        await store.close()
        assert not is_marked(database)
        assert not store._wal.has_content


async def test_copy_is_not_marked_and_starts_by_itself(tmp_path: Path) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    await SqliteStore(store.url).backup(tmp_path / "copy.db")
    assert [path.name for path in tmp_path.glob("*copy.db*")] == ["copy.db"]
    assert not is_marked(tmp_path / "copy.db")
    (tmp_path / "cp.db").write_bytes(store.path.read_bytes())
    await store.close()
    with pytest.raises(SettingError, match=r"cp\.db-wal is missing"):
        await SqliteStore(f"sqlite:///{tmp_path}/cp.db").open(DEFAULT_KEY_SPEC)


@pytest.mark.parametrize("step", ["migrate", "check_counters", "KeyIndex"])
async def test_copy_of_a_marked_file_by_sqlite_needs_no_repair_after_a_start_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """`VACUUM INTO` copies the mark, and the copy is whole; a start gives it a log."""
    running = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await running.open(DEFAULT_KEY_SPEC)
    with closing(sqlite3.connect(running.path)) as db:
        db.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    await running.close()
    copy = SqliteStore(f"sqlite:///{tmp_path}/copy.db")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_store, step, failing)
        with pytest.raises(StoreError, match="the disk is gone"):
            await copy.open(DEFAULT_KEY_SPEC)
    await copy.open(DEFAULT_KEY_SPEC)
    await copy.close()


def failing(*_: object) -> None:
    raise StoreError("the disk is gone")


def failing_in_sqlite(*_: object) -> None:
    raise sqlite3.OperationalError("the disk is gone")


async def test_start_that_fails_where_no_more_files_can_be_opened_needs_no_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")

    async def no_more(_: Path) -> SqliteThread:
        raise StoreError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_store, "KeyIndex", failing_in_sqlite)
        patched.setattr(SqliteThread, "read_only", no_more)
        with pytest.raises(StoreError, match="the disk is gone"):
            await store.open(DEFAULT_KEY_SPEC)
    await store.open(DEFAULT_KEY_SPEC)
    await store.close()


async def test_log_that_a_start_makes_while_another_process_looks_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    await store.close()
    immutable = SqliteThread.immutable

    async def after_a_start(database: Path) -> SqliteThread:
        monkeypatch.setattr(SqliteThread, "immutable", immutable)
        await store.open(DEFAULT_KEY_SPEC)
        return await immutable(database)

    monkeypatch.setattr(SqliteThread, "immutable", after_a_start)
    assert await SqliteStore(store.url).key_spec() == DEFAULT_KEY_SPEC
    await store.close()


@pytest.mark.parametrize("is_new", [True, False])
async def test_start_that_fails_in_sqlite_once_the_file_is_marked_needs_no_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    if not is_new:
        await store.open(DEFAULT_KEY_SPEC)
        await store.close()

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_store, "KeyIndex", failing_in_sqlite)
        with pytest.raises(StoreError, match="the disk is gone"):
            await store.open(DEFAULT_KEY_SPEC)
    assert is_marked(store.path)
    assert store._wal.has_content
    await store.open(DEFAULT_KEY_SPEC)
    await store.close()


@pytest.mark.parametrize(
    ("damage", "repair"),
    [
        ("UPDATE counters SET stored = 64", "UPDATE counters SET stored = 0"),
        ("INSERT INTO runs VALUES (1, 0, 0, 0, 0, 1, '', 0)", "DELETE FROM runs"),
    ],
)
@pytest.mark.parametrize("was_killed", [True, False])
async def test_start_that_finds_damage_lets_it_be_repaired_with_sqlite3(
    tmp_path: Path, damage: str, repair: str, was_killed: bool
) -> None:
    """Which is the last to close the file, and removes the log."""
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    if was_killed:
        for left in ("aggregator.db", "aggregator.db-wal"):
            (tmp_path / left.replace("aggregator", "killed")).write_bytes(
                (tmp_path / left).read_bytes()
            )
    await store.close()
    if was_killed:
        store = SqliteStore(f"sqlite:///{tmp_path}/killed.db")
        assert is_marked(store.path)
    beside = await SqliteThread.read_only(store.path)  # keeps the log that there is
    await beside.run(sqlite3.Connection.execute, "PRAGMA user_version")
    run_statement(store.path, damage)
    await beside.close()
    with pytest.raises(StoreError, match="damaged"):
        await store.open(DEFAULT_KEY_SPEC)
    run_statement(store.path, repair)
    assert not store._wal.has_content
    await store.open(DEFAULT_KEY_SPEC)
    await store.close()


def run_statement(database: Path, statement: str) -> None:
    """As `sqlite3` does."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute(statement)


async def test_mark_that_cannot_be_cleared_keeps_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: sqlite3.Connection) -> None:
        raise StoreError("the disk is full")

    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_store, "clear_mark", failing)
        await store.close()
    assert is_marked(store.path)
    assert store._wal.has_content
    await store.open(DEFAULT_KEY_SPEC)
    await store.close()


async def test_log_that_a_backup_has_let_grow_is_short_after_the_next_start(
    tmp_path: Path,
) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    assert store._writer
    for _ in range(100):
        await store._writer.run(sqlite3.Connection.execute, "PRAGMA user_version = 1")
    grown = store._wal.path.stat().st_size
    await store.reopen()
    assert store._wal.path.stat().st_size < grown / 10
    await store.close()


@pytest.mark.usefixtures("strace")
@pytest.mark.timeout(300)
async def test_no_moment_of_a_start_or_a_stop_leaves_a_log_to_be_missed(tmp_path: Path) -> None:
    """A power cut after each step, and so a kill, which leaves everything."""
    with Service(tmp_path) as service:
        recording = Recording(service)
        for end in (recording.stop, recording.kill, recording.stop, recording.kill):
            recording.start()
            assert service.publish(event(end.__name__))[0] == 200
            end()
    examiner = Examiner(recording.steps, tmp_path / "cuts", seed=1)
    await examiner.examine(set(range(len(recording.steps))))
