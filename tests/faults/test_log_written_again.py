"""Before anything is built on a log, the disk has what can be read of it."""

import re
import sqlite3
import subprocess
import sys
from random import Random

import opening
import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import StoreError
from aggregator.store import Query
from aggregator_sqlite.store import SqliteStore
from aggregator_sqlite.wal import WriteAheadLog
from killed import COMMITS, Killed

CALL = re.compile(r"(\w+)\((\d+)<[^>]*/(aggregator\.db(?:-wal)?)>.*= (\d+)$", re.MULTILINE)


@pytest.mark.parametrize("piece", [5000, 2**20])
def test_log_is_written_again_as_it_was(
    killed: Killed, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr("aggregator_sqlite.wal._PIECE", piece)
    with killed.log.open("ab") as log:
        log.write(Random(1).randbytes(2 * 2**20))
    before = killed.log.read_bytes()
    WriteAheadLog(killed.database).rewrite_and_sync()
    assert killed.log.read_bytes() == before


async def test_log_is_not_written_while_another_program_may_write_to_it(
    killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator_sqlite.connection.BUSY_TIMEOUT", 0.1)
    other = sqlite3.connect(killed.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    written = killed.log.stat().st_mtime_ns
    store = SqliteStore(f"sqlite:///{killed.database}")
    with pytest.raises(StoreError, match="locked"):
        await store.open(DEFAULT_KEY_SPEC)
    assert killed.log.stat().st_mtime_ns == written
    other.rollback()
    await store.open(DEFAULT_KEY_SPEC)
    other.close()  # as the last one it would copy the log into the database, and remove it
    assert len((await store.events(Query())).events) == COMMITS
    await store.close()


def test_log_is_on_the_disk_before_anything_is_built_on_it(
    killed: Killed, strace: list[str]
) -> None:
    """An earlier sync may have failed: what can be read since then need not be on the disk."""
    trace = killed.folder / "trace"
    calls = "trace=write,pwrite64,fsync,fdatasync,ftruncate,unlink"
    subprocess.run(
        [
            *(*strace, "-f", "-y", "-s", "0", "-e", calls, "-o", str(trace)),
            *(sys.executable, opening.__file__, f"sqlite:///{killed.database}"),
        ],
        check=True,
    )
    calls = CALL.findall(trace.read_text())
    synced = next(place for place, call in enumerate(calls) if call[0] in ("fsync", "fdatasync"))
    written, ((_, file, *ended), *later) = calls[:synced], calls[synced:]
    assert {(name, on) for name, on, *_ in written} == {("write", file)}
    assert sum(int(size) for *_, size in written) == killed.ends[-1]
    assert ended == [killed.log.name, "0"]
    assert ("pwrite64", killed.database.name) in {(name, path) for name, _, path, _ in later}


def test_log_that_cannot_be_put_on_the_disk_is_not_copied_into_the_database(
    killed: Killed, strace: list[str]
) -> None:
    """A later sync would succeed, though the disk does not have what is then built on."""
    database, log = killed.database.read_bytes(), killed.log.read_bytes()
    opened = subprocess.run(
        [
            *(*strace, "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=1"),
            *("-P", str(killed.log)),
            *(sys.executable, opening.__file__, f"sqlite:///{killed.database}"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "cannot write" in opened.stderr
    assert killed.database.read_bytes() == database
    assert killed.log.read_bytes() == log
