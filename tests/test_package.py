"""What is built to be handed out: whole, nothing more, and it serves where nothing else is."""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from aggregator import __version__
from blocks import blocks
from imports import ROOT, modules
from running import Service

LOCAL = (
    *(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info"),
    *("build", "dist", "data", "prove-*"),
)
"""What is in a checkout and not in git."""
FOLDERS = {"aggregator", "docs", "loadgen", "plugins", "tests"}
FILES = {
    *(".dockerignore", "CHANGELOG.md", "CONTRIBUTING.md", "Containerfile", "LICENSE", "Makefile"),
    *("MANIFEST.in", "README.md", "compose.yaml", "pyproject.toml", "setup.cfg"),
}
MADE = {"PKG-INFO", "event_aggregator.egg-info"}
INFORMATION = f"event_aggregator-{__version__}.dist-info"


class Built(NamedTuple):
    """A copy of the checkout, and what is built of it."""

    checkout: Path
    sdist: Path
    wheel: Path
    direct: Path
    """The wheel of the checkout; the other one is of the sdist."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions; from a copy, since a build writes into its folder."""
    folder = tmp_path_factory.mktemp("package")
    checkout = copytree(ROOT, folder / "checkout", ignore=ignore_patterns(*LOCAL))
    for left in ("tests/__pycache__/left.cpython-311.pyc", "build/lib/aggregator/left.py"):
        (checkout / left).parent.mkdir(parents=True)
        (checkout / left).touch()
    clean(checkout)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
    for outdir, kind in (("both", ()), ("direct", ("--wheel",))):
        command = [*build, str(folder / outdir), *kind, str(checkout)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    (sdist,), (wheel,) = (folder / "both").glob("*.tar.gz"), (folder / "both").glob("*.whl")
    (direct,) = (folder / "direct").glob("*.whl")
    return Built(checkout, sdist, wheel, direct)


def clean(checkout: Path) -> None:
    """Remove what `make package` removes before it builds."""
    recipe = (ROOT / "Makefile").read_text().partition("\npackage: ")[2].partition("\n\n")[0]
    (command,) = re.findall(r"^\t(rm .*)", recipe, re.MULTILINE)
    subprocess.run(["sh", "-c", command], cwd=checkout, check=True)


@pytest.fixture(scope="module")
def empty(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment in which the wheel, and what it needs, is all there is."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(built.wheel)], check=True)
    return folder / "bin"


@pytest.fixture
def installed(empty: Path, tmp_path: Path) -> Iterator[Service]:
    """The service of the wheel."""
    with Service(tmp_path, str(empty / "python")) as service:
        yield service


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(wheel: Path) -> Message:
    return Parser().parsestr(contents(wheel)[f"{INFORMATION}/METADATA"].decode())


def test_wheel_has_all_that_is_installed_and_neither_tests_nor_benchmark(built: Built) -> None:
    inside = {name for name in contents(built.wheel) if not name.startswith(INFORMATION)}
    code = {
        path.relative_to(ROOT).as_posix().removeprefix("plugins/")
        for name, path in modules().items()
        if not f"{name}.".startswith("loadgen.bench.")
    }
    others = {
        path.relative_to(home).as_posix()
        for home, packages in ((ROOT, "aggregator"), (ROOT / "plugins", "*"))
        for path in home.glob(f"{packages}/**/*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert {Path(name).suffix for name in others} >= {".html", ".ndjson", ".txt", ".typed"}
    assert inside == code | others
    assert f"{INFORMATION}/licenses/LICENSE" in contents(built.wheel)


def test_source_distribution_is_the_checkout(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        paths = [Path(*Path(one.name).parts[1:]) for one in archive if one.isfile()]
    assert {path.parts[0] for path in paths} == FOLDERS | FILES | MADE
    there = {
        path.relative_to(built.checkout)
        for folder in FOLDERS
        for path in (built.checkout / folder).glob("**/*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {path for path in paths if path.parts[0] in FOLDERS} == there


def test_source_distribution_builds_the_same_wheel(built: Built) -> None:
    assert contents(built.wheel) == contents(built.direct)


def test_index_takes_both_and_shows_a_page_whose_links_lead_somewhere(built: Built) -> None:
    check = [sys.executable, "-m", "twine", "--no-color", "check", "--strict"]
    ran = subprocess.run(
        [*check, str(built.wheel), str(built.sdist)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.count("PASSED") == 2
    told = metadata(built.wheel)
    page = told.get_payload()
    assert page.strip() == (ROOT / "docs" / "package.md").read_text().strip()
    assert re.findall(r"\]\((?!https?:)[^)]*\)", page) == []
    licence, author, needed = told["License-Expression"], told["Author"], told["Requires-Python"]
    assert (licence, needed) == ("MIT", ">=3.11")
    assert author in (ROOT / "LICENSE").read_text()
    extras = {"docs", "loadgen", "metrics", "test", "check"}
    assert set(told.get_all("Provides-Extra", [])) == extras


def test_commands_are_there_and_say_what_they_lack(empty: Path, tmp_path: Path) -> None:
    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        name, *arguments = command
        return subprocess.run(
            [str(empty / name), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    where = run("python", "-c", "import aggregator; print(aggregator.__file__)").stdout
    assert where.startswith(str(empty.parent))
    assert run("aggregator", "--version").stdout == f"aggregator, version {__version__}\n"
    listed = run("aggregator", "plugins").stdout
    for name in ("validate", "dedup", "persist", "sqlite", "memory", "docs"):
        assert re.search(rf"^  {name} .* event-aggregator {__version__}$", listed, re.MULTILINE)
    assert "cannot be loaded" not in listed
    refused = run("loadgen", "-h")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.endswith("pip install 'event-aggregator[loadgen]'\n")
    assert len(refused.stderr.splitlines()) == 1


def test_installed_service_does_what_the_page_of_the_package_shows(installed: Service) -> None:
    page = (ROOT / "docs" / "package.md").read_text()
    _, publish = blocks(page, "sh")
    (answers,) = blocks(page, "json")
    for expected in answers.splitlines():
        installed.start()
        command = publish.replace("http://127.0.0.1:8080", installed.url)
        said = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
        answer, shown = json.loads(said), json.loads(expected)
        for result in (*answer["results"], *shown["results"]):
            result.pop("received_at", None)
        assert answer == shown
        assert "/publish" in installed.call("/openapi.json")[1]["paths"]
        installed.kill()
