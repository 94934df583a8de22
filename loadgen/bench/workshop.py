"""Installs what peers are made of into a folder that git ignores, once."""

import shutil
import subprocess
import sys
from pathlib import Path

from loadgen.bench.errors import UnavailableError

INSTALLING = 600.0  # seconds


def python_with(cache: Path, name: str, requirements: tuple[str, ...]) -> Path:
    """A Python that has the requirements; UnavailableError says why not."""
    home = cache / name
    python, installed = home / "bin" / "python", home / "installed"
    wanted = "\n".join(requirements)
    if installed.exists() and installed.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)], name)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run([*pip, *requirements], name)
    installed.write_text(wanted)
    return python


def _run(command: list[str], name: str) -> None:
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALLING, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{name} could not be installed: {error}") from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise UnavailableError(f"{name} could not be installed: {said[-1] if said else 'no word'}")
