"""The repository polices itself: layers, packaging, and what the docs must name."""

import ast
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiosqlite

ROOT = Path(__file__).parent.parent
LAYERS = (
    {"errors", "outcome", "timestamp", "pointer", "commits", "cors", "schemas"},
    {"content", "key", "verdict_schemas"},
    {"event", "strict_json"},
    {"store", "queue", "split", "inflate", "rules", "shape", "reading_schemas"},
    {"transaction", "budget", "plain_event", "cloud_event", "binary_mode", "quarantine_schemas"},
    {"stage", "sending", "decode", "link", "shown", "accept"},
    {"pipeline", "ledger", "settings", "books", "arguments", "preferences", "change_key", "turn"},
    {"settling", "plugins", "watchdog", "query", "body", "media_type", "logs", "looks"},
    {"worker", "problems", "receiving", "finding", "export", "following", "options"},
    {"openapi_types"},
    {"intake", "answer"},
    {"verdict", "quarantine_page", "still", "responses"},
    {"publishing", "quarantine", "reading", "explaining", "topics", "state", "docs_page"},
    {"parameters"},
    {"operations"},
    {"description"},
    {"describing"},
    {"app"},
    {"server"},
    {"command"},
    {"__main__", "testing"},
)
"""From the ground up: a module imports only from the layers below its own."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_arrows_point_one_way() -> None:
    floor = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for path in sorted((ROOT / "aggregator").glob("*.py")):
        if path.stem == "__init__":
            continue
        for imported in imports(path):
            package, _, rest = imported.partition(".")
            module = rest.split(".")[0]
            if package == "aggregator" and module in floor:
                assert floor[module] < floor[path.stem], f"{path.name} imports {module}"


def test_core_never_imports_a_plugin() -> None:
    plugins = {path.name for path in (ROOT / "plugins").iterdir()}
    for path in (ROOT / "aggregator").glob("**/*.py"):
        assert not plugins & {name.split(".")[0] for name in imports(path)}, path


def test_only_the_sqlite_plugin_knows_sqlite() -> None:
    home = ROOT / "plugins" / "aggregator_sqlite"
    for folder in ("aggregator", "plugins", "loadgen"):
        for path in (ROOT / folder).glob("**/*.py"):
            if home not in path.parents:
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
        row = await connection._execute(lambda db: db.execute("SELECT 1").fetchone(), inner)
        assert row == (1,)
