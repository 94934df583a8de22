"""The repository polices itself: layers, packaging, and what the docs must name."""

import asyncio
import sqlite3
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import aiosqlite

from imports import ROOT, arrows, imports, part

LAYERS = (
    # What everything else is written in: the contracts, and what they share.
    {"core", "errors", "outcome", "event", "store", "comparison", "transaction", "stage", "queue"},
    {"pipeline"},
    {
        "config",
        "access",
        "route",
    },  # above the pipeline, which reads no settings: it is given what it needs
    {"plugins", "watchdog", "logs", "testing", "api", "client", "sockets", "tls", "token_file"},
    {"app", "starting"},
    {"server"},
    {"prove", "authoring"},
    {"cli", "__main__"},
)
"""The folders and files of `aggregator/` from the ground up."""


def test_modules_import_from_their_own_layer_and_those_below() -> None:
    floor = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    inner = {one: to for one, to in arrows().items() if one.startswith("aggregator.")}
    assert floor.keys() == set(map(part, inner)), "LAYERS has all that is there, and nothing else"
    for module, imported in inner.items():
        for name in imported & inner.keys():
            assert floor[part(name)] <= floor[part(module)], f"{module} imports {name} from above"


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        raise AssertionError(f"{', imported by '.join(error.args[1])}: a circle") from None


def test_core_never_imports_a_plugin() -> None:
    plugins = {path.name for path in (ROOT / "plugins").iterdir()}
    for path in (ROOT / "aggregator").glob("**/*.py"):
        assert not plugins & {name.split(".")[0] for name in imports(path)}, path


def test_only_the_sqlite_plugin_knows_sqlite() -> None:
    home = ROOT / "plugins" / "aggregator_sqlite"
    measured = ROOT / "loadgen" / "bench" / "programs"  # other people's designs, and SQLite alone
    for folder in ("aggregator", "plugins", "loadgen"):
        for path in (ROOT / folder).glob("**/*.py"):
            if not {home, measured} & set(path.parents):
                drivers = {"sqlite3", "aiosqlite"}
                assert not drivers & {name.split(".")[0] for name in imports(path)}, path


def test_plugins_are_packages_of_their_own(tmp_path: Path) -> None:
    script = "import aggregator, aggregator_sqlite\nimport importlib.util as u\n"
    script += "assert u.find_spec('plugins') is None and u.find_spec('tests') is None"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_every_package_that_is_installed_is_type_checked() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = {name.partition(".")[0] for name in setup["options"]["packages"].split()}
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert set(tools["mypy"]["packages"]) == installed


async def test_aiosqlite_still_runs_functions_on_its_thread() -> None:
    async with aiosqlite.connect(":memory:") as connection:
        inner = connection._conn
        assert isinstance(inner, sqlite3.Connection)
        result = asyncio.get_running_loop().create_future()
        call = partial(lambda db: db.execute("SELECT 1").fetchone(), inner)
        connection._tx.put_nowait((result, call))
        assert await asyncio.wait_for(result, 5) == (1,)


NOT_FOR_SERVING = (
    *("aggregator.prove", "aggregator.client", "aggregator.testing", "aggregator.api.openapi"),
    *("loadgen", "apispec", "packaging", "rich", "stamina", "pytest"),
)
"""What a start may not import, since it would only cost time."""

NOT_FOR_ASKING = (
    "aggregator.app",
    "aggregator.server",
    "aggregator.pipeline",
    "aiohttp",
    "sqlite3",
)


def imported(script: str) -> set[str]:
    """The modules that are imported in a process of its own once the script has run."""
    shown = f"{script}\nimport sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True
    ).stdout
    return set(ran.splitlines()[-1].split())


def below(names: tuple[str, ...], modules: set[str]) -> list[str]:
    """Those of the modules that have one of these names, or stand below it."""
    return sorted(one for one in modules if f"{one}.".startswith(tuple(f"{n}." for n in names)))


def test_service_imports_what_serving_needs() -> None:
    modules = imported(
        "import aggregator.cli.main, aggregator.cli.serve as serve\n"
        "serve.wire({'store': 'sqlite:///nowhere/events.db'})"
    )
    assert {"aggregator.app", "aggregator_sqlite.store", "aggregator_docs.docs_page"} <= modules
    assert below(NOT_FOR_SERVING, modules) == []


def test_commands_that_only_ask_import_nothing_of_the_service() -> None:
    for script in ("import aggregator.cli.main", "import aggregator.cli.health"):
        assert below(NOT_FOR_ASKING + NOT_FOR_SERVING, imported(script)) == []
