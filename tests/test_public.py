"""What authors of plugins import is listed in the docs, and is all that plugins need."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import pytest

from imports import ROOT, arrows, part

PUBLIC = (
    "stage",
    "transaction",
    "event",
    "outcome",
    "errors",
    "store",
    "queue",
    "route",
    "testing",
)
OUTSIDE = (
    "tests/process/stranger.py",
    "aggregator/authoring/templates/batch.py.txt",
    "aggregator/authoring/templates/intake.py.txt",
    "aggregator/authoring/templates/test_batch.py.txt",
    "aggregator/authoring/templates/test_intake.py.txt",
    "docs/writing-a-stage.md",
    "docs/writing-a-store.md",
    "docs/adding-routes.md",
)
"""Where plugins stand that somebody else could have written."""


def public_names(name: str) -> list[str]:
    """What `__all__` has, or else what the module itself defines for others, in its order."""
    module = import_module(f"aggregator.{name}")
    if hasattr(module, "__all__"):
        return list(module.__all__)
    assert module.__file__
    return [
        defined
        for defined in _defined(Path(module.__file__))
        if not defined.startswith("_") and not isinstance(getattr(module, defined), TypeVar)
    ]


def _defined(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_docs(name: str) -> None:
    names = ", ".join(f"`{one}`" for one in public_names(name))
    row = f"| `aggregator.{name}` | {names} |"
    docs = (ROOT / "docs" / "architecture.md").read_text()
    section = docs.partition("\n## What plugins import\n")[2].partition("\n## ")[0]
    assert row in section.splitlines(), f"docs/architecture.md lacks the row:\n{row}"


def test_our_plugins_import_what_is_public_and_the_core() -> None:
    for module, imported in arrows().items():
        for name in imported if module.startswith("aggregator_") else ():
            if name.startswith("aggregator."):
                assert part(name) in {*PUBLIC, "core"}, f"{module} imports {name}"


@pytest.mark.parametrize("place", OUTSIDE)
def test_plugins_of_others_import_public_names(place: str) -> None:
    text = (ROOT / place).read_text()
    found = re.findall(r"^from (aggregator\S*) import (.+)$", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^(?:from|import) aggregator", text, re.MULTILINE)) > 0
    for module, names in found:
        assert module.removeprefix("aggregator.") in PUBLIC, f"{place} imports {module}"
        assert set(names.split(", ")) <= set(public_names(part(module))), f"{place}: {names}"
