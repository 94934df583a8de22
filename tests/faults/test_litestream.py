"""Litestream beside the service: a second process that writes and checkpoints does no harm.

What is in its replica is not looked at, only that it is accepted: docs/backup.md says why.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom

import pytest

from publishers import Publishers, check_everything
from restored import BACKUP, check_restored, run_block
from running import Service, aggregator, until

NEWER_SQLITE = """
import sys
import pysqlite3.dbapi2
sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
"""
"""Python runs it at each start, before anything else can import its own SQLite."""

ENOUGH = 5000  # events: Litestream checkpoints meanwhile


@pytest.fixture
def litestream() -> str:
    if not find_spec("pysqlite3"):
        pytest.skip("there is no wheel here of a SQLite with the fix that Litestream needs")
    beside = Path(sys.executable).with_name("litestream")
    found = shutil.which(beside) or shutil.which("litestream")
    if not found:
        pytest.skip("litestream is not installed")
    return found


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Lets a process have the SQLite of pysqlite3, which has the fix that Litestream needs."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NEWER_SQLITE)
    return {"PYTHONPATH": str(folder)}


@contextmanager
def replication(litestream: str, folder: Path) -> Iterator[None]:
    """To the folder `replica`."""
    with (folder / "litestream.log").open("wb") as log:
        process = subprocess.Popen(
            [litestream, "replicate", "data/aggregator.db", f"file://{folder}/replica"],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield
        assert process.poll() is None, "it has ended meanwhile"
    finally:
        process.kill()
        process.wait()


def pieces(folder: Path) -> int:
    """How many are replicated so far."""
    return len(list((folder / "replica" / "ltx" / "0").glob("*.ltx")))


def check_accepted(litestream: str, folder: Path, environ: dict[str, str]) -> None:
    """What it restores has the mark of a running service and no log, which is to be accepted."""
    restore = [litestream, "restore", "-o", "replica.db", f"file://{folder}/replica"]
    if subprocess.run(restore, cwd=folder, check=False, capture_output=True).returncode:
        return  # it may be one that cannot be restored
    store = ("--store", f"sqlite:///{folder}/replica.db")
    refused = aggregator(folder, "backup", "never.db", *store, environ=environ)
    assert refused.returncode == 2
    assert "replica.db-wal is missing or empty" in refused.stderr
    accepted = aggregator(folder, "check", "--accept-missing-log", *store, environ=environ)
    assert "the missing log is accepted" in accepted.stdout, accepted
    again = aggregator(folder, "check", "--accept-missing-log", *store, environ=environ)
    assert "no log is missing" in again.stdout, again


def test_litestream_disturbs_neither_publishers_nor_store(
    service: Service, litestream: str, environ: dict[str, str], tmp_path: Path
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start(environ=environ)
    with Publishers(service, seed) as publishers, replication(litestream, tmp_path):
        ledger = publishers.ledger
        until(lambda: pieces(tmp_path) > 2, "something is replicated")
        assert ledger.unanswered == 0, "publishers were disturbed"
        service.kill()
        service.start(environ=environ)
        lost, enough = ledger.unanswered, len(ledger.seqs) + ENOUGH
        until(lambda: len(ledger.seqs) > enough, "it goes on")
        assert ledger.unanswered - lost <= 4, "publishers were disturbed"
        publishers.finish()
        check_everything(service, ledger)
        run_block(BACKUP, tmp_path, environ)
        check_accepted(litestream, tmp_path, environ)
        assert service.stop() == 0
    seqs, copy = ledger.seqs, tmp_path / "backup.db"
    assert check_restored(tmp_path / "restored", copy, seqs, seqs, environ) == len(seqs)
