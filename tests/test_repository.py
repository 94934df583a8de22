"""The repository polices itself: layers, packaging, and what the docs must name."""

import ast
import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiosqlite

ROOT = Path(__file__).parent.parent
LAYERS = (
    {"number", "open_files"},
    {
        "errors",
        "outcome",
        "timestamp",
        "pointer",
        "commits",
        "unique",
        "web.lean",
        "web.uri",
        "description.schemas",
    },
    {"content", "key", "web.origins", "description.verdict_schemas"},
    {"event", "web.cors"},
    {
        "store",
        "queue",
        "policies",
        "description.reading_schemas",
    },
    {
        "transaction",
        "budget",
        "description.quarantine_schemas",
    },
    {"stage", "web.sending", "web.link", "web.shown", "web.accept"},
    {
        "pipeline",
        "ledger",
        "settings",
        "masking",
        "books",
        "web.arguments",
        "web.preferences",
        "backup",
        "change_key",
        "web.turn",
    },
    {"checks"},
    {"configuration"},
    {
        "settling",
        "plugins",
        "watchdog",
        "web.query",
        "logs",
        "web.looks",
    },
    {
        "worker",
        "web.problems",
        "web.finding",
        "web.export",
        "web.following",
        "web.options",
    },
    {"description.openapi_types"},
    {"intake", "web.answer"},
    {"web.verdict", "web.quarantine_page", "web.still", "description.responses"},
    {
        "web.publishing",
        "web.quarantine",
        "web.reading",
        "web.explaining",
        "web.topics",
        "web.state",
        "description.docs_page",
    },
    {"description.parameters"},
    {"description.operations"},
    {"description.document"},
    {"description.serving"},
    {"app"},
    {"server"},
    {"command"},
    {"__main__", "testing.making"},
    {"testing.commits", "testing.quarantine", "testing.queues", "testing.stages"},
    {"testing.stores"},
)
"""From the ground up: a module imports only from the layers below its own."""


KNOWING = ("app.py", "server.py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_arrows_point_one_way() -> None:
    floor = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    home = ROOT / "aggregator"
    for path in sorted(home.glob("**/*.py")):
        if path.stem == "__init__":
            continue
        importing = ".".join(path.relative_to(home).with_suffix("").parts)
        for imported in imports(path):
            for name in (imported, imported.rpartition(".")[0]):
                module = name.removeprefix("aggregator.")
                if name != module and module in floor:
                    assert floor[module] < floor[importing], f"{importing} imports {module}"


def test_core_knows_the_packages_around_it_in_one_place_only() -> None:
    for path in sorted((ROOT / "aggregator").glob("*.py")):
        packages = {name.split(".")[1] for name in imports(path) if name.startswith("aggregator.")}
        if path.name not in KNOWING:
            assert not packages & {"api", "description", "web"}, path.name


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


async def test_aiosqlite_still_runs_functions_on_its_thread() -> None:
    async with aiosqlite.connect(":memory:") as connection:
        inner = connection._conn
        assert isinstance(inner, sqlite3.Connection)
        result = asyncio.get_running_loop().create_future()
        call = partial(lambda db: db.execute("SELECT 1").fetchone(), inner)
        connection._tx.put_nowait((result, call))
        assert await asyncio.wait_for(result, 5) == (1,)
