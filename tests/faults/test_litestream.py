"""Litestream beside the service: a second process that checkpoints, as it is documented."""

import shlex
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom

import pytest

from publishers import Publishers, check_everything
from restored import REPLICATE, RESTORE_REPLICA, check_restored, run_block
from running import LIMIT, Service, until

NEWER_SQLITE = """
import sys
import pysqlite3.dbapi2
sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
"""
"""Python runs it at each start, before anything else can import its own SQLite."""


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


class Replication:
    """Litestream, to the folder `replica`."""

    def __init__(self, litestream: str, folder: Path) -> None:
        self._command = [litestream, *shlex.split(here(REPLICATE, folder))[1:]]
        self._folder = folder
        self._log = folder / "litestream.log"

    def __enter__(self) -> "Replication":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As it is asked to end."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(LIMIT) == 0

    def has_more_than(self, pieces: int) -> bool:
        """Whether so many are replicated; started again where it needs to be, as the docs say."""
        if b"read database page" in self._log.read_bytes():
            self.stop()
            self.__enter__()
        return count_of(self._folder) > pieces


def here(block: str, folder: Path) -> str:
    """What the docs say, with a replica in the folder."""
    return block.replace("/var/backups/aggregator", f"{folder}/replica")


def count_of(folder: Path) -> int:
    """Of the pieces that are replicated so far."""
    return len(list((folder / "replica" / "ltx" / "0").glob("*.ltx")))


def test_replica_holds_the_store_up_to_a_moment_and_all_of_it_after_an_orderly_stop(
    service: Service, litestream: str, environ: dict[str, str], tmp_path: Path
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start(environ=environ)
    with Publishers(service, seed) as publishers, Replication(litestream, tmp_path) as replication:
        ledger = publishers.ledger
        until(lambda: replication.has_more_than(2), "something is replicated")
        assert ledger.unanswered == 0, "publishers were disturbed"
        service.kill()
        killed = tmp_path / "killed.db"
        replica = f"file://{tmp_path}/replica"
        subprocess.run([litestream, "restore", "-o", killed, replica], timeout=LIMIT, check=True)
        service.start(environ=environ)
        lost, enough = ledger.unanswered, count_of(tmp_path) + 1
        until(lambda: replication.has_more_than(enough), "more is replicated")
        assert ledger.unanswered - lost <= 4, "publishers were disturbed"
        publishers.finish()
        check_everything(service, ledger)
        assert service.stop() == 0
        replication.stop()
    run_block(here(RESTORE_REPLICA, tmp_path), tmp_path, environ)
    stopped = tmp_path / "data" / "aggregator.db"
    seqs = ledger.seqs
    assert 0 < check_restored(tmp_path / "1", killed, {}, seqs, environ) < len(seqs)
    assert check_restored(tmp_path / "2", stopped, seqs, seqs, environ) == len(seqs)
