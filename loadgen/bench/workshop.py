"""Installs what peers are made of into a folder that git ignores, once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from loadgen.bench.errors import UnavailableError

INSTALLING = 900.0  # seconds


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


def go_program(cache: Path, name: str, source: Path, modules: tuple[str, ...]) -> Path:
    """A program built of one file and the modules at their versions."""
    home = cache / name
    built, installed = home / name, home / "installed"
    wanted = "\n".join([source.read_text(), *modules])
    if installed.exists() and installed.read_text() == wanted:
        return built
    if not shutil.which("go"):
        raise UnavailableError(f"{name} is built with Go, which is not installed")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    shutil.copy(source, home / "main.go")
    for words in (("mod", "init", name), ("get", *modules), ("build", "-o", name, ".")):
        _run(["go", *words], name, home, {"GOPATH": str(cache / "go"), "GOFLAGS": "-modcacherw"})
    installed.write_text(wanted)
    return built


def _run(
    command: list[str], name: str, folder: Path | None = None, environ: dict[str, str] | None = None
) -> None:
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=INSTALLING,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{name} could not be installed: {error}") from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise UnavailableError(f"{name} could not be installed: {said[-1] if said else 'no word'}")
