"""Who is refused the start is told how to go on, and nothing that would do harm."""

import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from images import FRAME, HEADER, Image, journalled, recovered

from aggregator.errors import SettingError
from aggregator_sqlite.wal import WriteAheadLog
from killed import Killed


def test_copy_that_is_kept_is_the_first_one(killed: Killed) -> None:
    """What is tried on the log meanwhile does not reach it."""
    killed.flip(killed.first_frame(11) + FRAME)
    killed.log.chmod(0o640)
    as_it_was = killed.log.read_bytes()
    for byte in (0, 100):
        with pytest.raises(SettingError, match="a copy is kept in "):
            WriteAheadLog(killed.database).check()
        killed.flip(killed.first_frame(5) + byte)
    (copy,) = killed.database.parent.glob("*.damaged-*")
    assert copy.read_bytes() == as_it_was
    assert copy.stat().st_mode & 0o777 == 0o640


def test_refusal_says_so_when_no_copy_can_be_kept(
    killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed.flip(killed.first_frame(11) + FRAME)
    before = killed.contents()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SettingError, match="no copy could be kept: No space left on device"):
        WriteAheadLog(killed.database).check()
    assert killed.contents() == before


def test_log_that_another_program_begins_anew_meanwhile_is_not_refused(
    killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read while it is written it may look damaged, but not twice in the same way."""
    killed.flip(killed.first_frame(11) + FRAME)
    log = WriteAheadLog(killed.database)
    examine = log._examine

    def examine_and_mend() -> object:
        found = examine()
        killed.log.write_bytes(b"")
        return found

    monkeypatch.setattr(log, "_examine", examine_and_mend)
    log.check()


@pytest.mark.parametrize("page_size", [512, 65536])
def test_unreadable_header_is_damage_whatever_the_page_size(tmp_path: Path, page_size: int) -> None:
    with journalled(tmp_path, page_size) as made:
        image = [made.commit() for _ in range(3)][-1]
    log = as_found(tmp_path, image.flipped(HEADER - 1))
    with pytest.raises(SettingError, match="truncate -s 0 "):
        log.check()


def as_found(folder: Path, image: Image) -> WriteAheadLog:
    path = folder / "found.db"
    path.write_bytes(image.database)
    path.with_name("found.db-wal").write_bytes(image.log)
    return WriteAheadLog(path)


def test_nothing_is_cut_that_the_database_goes_beyond(tmp_path: Path) -> None:
    """A checkpoint copied six commits, as far as somebody read: the first four are no whole now."""
    with journalled(tmp_path) as made:
        images = [made.commit() for _ in range(6)]
        reader = sqlite3.connect(made.path, isolation_level=None)
        reader.execute("BEGIN").execute("SELECT * FROM commits").fetchone()
        images += [made.commit() for _ in range(4)]
        made.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        reader.close()
        image = made.image()
    ends = [len(one.log) for one in images]
    with pytest.raises(SettingError, match="begin with an empty store") as refused:
        as_found(tmp_path, image.flipped(ends[3] + 100)).check()
    assert "truncate" not in str(refused.value)
    told = str(refused.value)
    subprocess.run(told[told.index("mkdir ") :], shell=True, check=True)
    assert [path.name for path in tmp_path.glob("found.db*")] == []
    assert (tmp_path / "before" / "found.db-wal").exists()
    with pytest.raises(SettingError, match=f"truncate -s {ends[7]} "):
        as_found(tmp_path, image.flipped(ends[7] + 100)).check()
    assert recovered(tmp_path, image.with_log(image.log[: ends[7]])) == 8


def test_log_whose_commits_are_all_in_the_database_can_go(tmp_path: Path) -> None:
    with journalled(tmp_path) as made:
        images = [made.commit() for _ in range(6)]
        made.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        image = made.image()
    log = as_found(tmp_path, image.flipped(len(images[2].log) + 9))
    with pytest.raises(
        SettingError, match=f"in the database already: rm {log.path}\n.*accept-missing-log$"
    ):
        log.check()
    assert recovered(tmp_path, image.with_log(b"")) == 6
