"""`aggregator prove` where the machine has not what it needs: nothing is proved, nor denied."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from small_disk import small_disk

from aggregator.errors import SettingError
from aggregator.prove import prover
from aggregator.prove.report import Options, Proof
from running import LIMIT, aggregator

PATIENCE = 60.0
LITTLE = 1_500_000  # bytes
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
os.execv(sys.executable, [sys.executable, "-m", "aggregator", "prove", *sys.argv[1:]])
"""


def test_service_that_cannot_begin_on_a_full_disk_says_so_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mebibytes=16) as disk:
        disk.fill(leaving=100_000)
        told = aggregator(disk.folder, "prove", "--kills", "3", seconds=PATIENCE)
        assert not list(disk.folder.glob("prove-*"))
    assert told.returncode == 2, told
    assert "SQLITE_FULL" in told.stderr or "SQLITE_IOERR" in told.stderr
    assert "Traceback" not in told.stderr
    assert told.stdout == ""


async def test_disk_that_is_full_later_is_no_breach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prover, "_PATIENCE", 4.0)

    def show(_: Proof) -> None:
        pass

    with small_disk(tmp_path / "disk", mebibytes=16) as disk:
        disk.fill(leaving=LITTLE)
        own = disk.folder / "own"
        own.mkdir()
        options = Options(own, "sqlite:///a.db", "memory:", 9, 60.0, 1, 4)
        with pytest.raises(SettingError, match="nothing is proved, the disk is full"):
            await prover.prove(options, show)


@pytest.mark.parametrize(("limit", "connections"), [(200, 300), (64, 200)])
def test_too_few_files_are_said_before_anything_is_proved(
    tmp_path: Path, limit: int, connections: int
) -> None:
    told = limited(tmp_path, limit, "--kills", "1", "--connections", str(connections))
    assert told.returncode == 2
    assert f"need {connections + 64} open files, and the limit is {limit}" in told.stderr
    assert "Traceback" not in told.stderr
    assert not list(tmp_path.iterdir())


def test_files_that_suffice_are_enough(tmp_path: Path) -> None:
    told = limited(tmp_path, 40 + 64, "--kills", "1", "--connections", "40")
    assert told.returncode == 0, told


def test_lower_limit_is_raised_as_far_as_it_goes(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    code = LIMITED.format(limit=64).replace("64)", f"{hard})")
    told = run(tmp_path, code, "--kills", "1", "--connections", "40")
    assert told.returncode == 0, told


def limited(folder: Path, limit: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(folder, LIMITED.format(limit=limit), *arguments)


def run(folder: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE + LIMIT,
        check=False,
    )
