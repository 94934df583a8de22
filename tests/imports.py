"""Which of the modules that are written here imports which."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def modules() -> dict[str, Path]:
    """Every module that is written here, by its name."""
    found = {}
    for home, folder in ((ROOT, "aggregator"), (ROOT, "loadgen"), (ROOT / "plugins", "")):
        for path in sorted((home / folder).glob("**/*.py")):
            parts = path.relative_to(home).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def arrows() -> dict[str, set[str]]:
    """Which of our modules each one imports."""
    found = modules()
    return {
        module: {name if name in found else name.rpartition(".")[0] for name in imports(path)}
        & found.keys()
        for module, path in found.items()
    }


def part(module: str) -> str:
    """The folder or file of `aggregator/` in which a module stands."""
    return f"{module}.".split(".")[1]
