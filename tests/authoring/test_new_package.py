"""`aggregator new-stage` writes nothing over, and nothing under a name that is no good."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aggregator.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages are written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_stage(name: str) -> Result:
    return CliRunner().invoke(main, ["new-stage", "--", name])


def test_nothing_is_overwritten(folder: Path) -> None:
    assert new_stage("drop-small").exit_code == 0
    mine = folder / "aggregator-drop-small" / "aggregator_drop_small.py"
    mine.write_text("mine\n")
    again = new_stage("drop-small")
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert mine.read_text() == "mine\n"


def test_underscores_are_as_good_as_dashes(folder: Path) -> None:
    assert "the stage drop_small" in new_stage("drop_small").stdout
    assert (folder / "aggregator-drop-small" / "test_drop_small.py").is_file()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, "is no name") for name in ("", "Small", "a b", "a--b", "-a", "1a", "a/b", "é")),
        ("a" * 41, "is no name"),
        ("memory", "is a module already"),
        ("batch-stage", "is the name of something"),
        ("dedup", "is installed already"),
    ],
)
def test_name_that_is_no_good_is_refused(folder: Path, name: str, told: str) -> None:
    refused = new_stage(name)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert list(folder.iterdir()) == []
