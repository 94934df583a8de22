"""What `aggregator new-stage` writes is tried, tested, installed and served as its README says."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import stranger

from blocks import blocks
from events import event
from running import LIMIT, Service, aggregator

# The first is in `make test`, which has the other one in test_authors_page.py.
NAMES = {"intake": ("new-stage", "--intake", "drop-small"), "batch": ("new-stage", "drop-small")}
SETTLED = {"batch": "filtered", "intake": "invalid"}


@pytest.mark.parametrize("kind", NAMES)
def test_new_stage_is_green_and_serves_as_it_is_written(
    service: Service, tmp_path: Path, kind: str
) -> None:
    made = aggregator(tmp_path, *NAMES[kind])
    assert made.returncode == 0, made.stderr
    package = tmp_path / "aggregator-drop-small"
    readme = (package / "README.md").read_text()
    trying, testing, installing, serving = blocks(readme, "sh")
    assert installing == "pip install .\n"
    assert testing == "pip install -e '.[test]'\npytest\n"

    tried = run(package, "sh", "-ec", trying)
    assert f"2         {SETTLED[kind]}" in tried
    assert "not settled" not in tried
    passed = run(package, sys.executable, "-m", "pytest", "-q", "-W", "error")
    assert "4 passed" in passed

    target = stranger.pip_install(package, tmp_path / "installed")
    (tmp_path / "aggregator.toml").write_text(*blocks(readme, "toml"))
    serve = shlex.split(serving)
    assert serve[:2] == ["aggregator", "serve"]
    service.start(*serve[2:], environ={"PYTHONPATH": str(target)})
    small, large = (event(str(amount), payload={"amount": amount}) for amount in (9, 10))
    _, told = service.publish([small, large])
    assert [one["status"] for one in told["results"]] == [SETTLED[kind], "stored"]


def run(folder: Path, *command: str) -> str:
    """What the command prints, where `aggregator` is the one that is tested."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_what_to_run_next_is_said_and_runs(tmp_path: Path) -> None:
    made = aggregator(tmp_path, "new-stage", "drop-small")
    steps = [line for line in made.stdout.splitlines() if line.startswith("  ")]
    assert "1 filtered" in run(tmp_path, "sh", "-ec", "\n".join(steps[:2]))
