"""What the user may not search or write: each command says so, in a line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import LIMIT, Service

POWERS = "-dac_override,-dac_read_search"
"""Those by which root goes everywhere."""


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def aggregator(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aggregator", *arguments]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("setpriv is not installed, and root may do everything")
        command = ["setpriv", f"--inh-caps={POWERS}", f"--bounding-set={POWERS}", *command]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.mark.parametrize(
    "command", [["serve", "--port", "0"], ["backup", "copy.db"], ["change-key"]], ids=" ".join
)
@pytest.mark.parametrize("path", ["closed/a.db", "closed/sub/a.db"])
def test_store_in_a_closed_folder_is_said(closed: Path, command: list[str], path: str) -> None:
    told = aggregator(closed.parent, *command, "--store", f"sqlite:///{path}")
    assert told.returncode == 2
    assert told.stderr.startswith("aggregator: store: cannot ")
    assert "Permission denied" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("command", [["backup", "copy.db"], ["change-key"]], ids=" ".join)
def test_store_that_may_only_be_read_is_for_its_own_user(
    service: Service, tmp_path: Path, command: list[str]
) -> None:
    """Whoever reads it while the service is stopped makes the index of its log."""
    service.start()
    service.stop()
    data = tmp_path / "data"
    data.chmod(0o555)
    told = aggregator(tmp_path, *command)
    data.chmod(0o755)
    assert told.returncode == 2
    assert f"store: {data}/aggregator.db: " in told.stderr
    assert "as the user that the service runs as" in told.stderr


@pytest.mark.parametrize("path", ["closed/copy.db", "closed/sub/copy.db"])
def test_backup_into_a_closed_folder_is_said(service: Service, closed: Path, path: str) -> None:
    service.start()
    told = aggregator(closed.parent, "backup", path)
    assert told.returncode == 2
    assert f"backup: cannot write {closed.parent}/{path}: Permission denied" in told.stderr
    assert "Traceback" not in told.stderr
