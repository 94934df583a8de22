"""The glossary names what is there."""

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
GLOSSARY = (DOCS / "glossary.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (.*\.py\)) \|$", GLOSSARY, re.MULTILINE)
CLASS = re.compile(r"`([A-Z][a-z]\w*)(?:\.(\w+))?`")


def test_every_row_is_one_of_the_table_with_a_file() -> None:
    lines = [line for line in GLOSSARY.splitlines() if line.startswith("|")]
    heads = [line for line in lines if line.startswith(("|---", "| word |"))]
    assert len(ROWS) == len(lines) - len(heads) > len(heads)


@pytest.mark.parametrize(("word", "meaning", "where"), ROWS, ids=[row[0] for row in ROWS])
def test_file_that_the_glossary_names_has_what_it_says(word: str, meaning: str, where: str) -> None:
    link = re.fullmatch(r"\[(.+)\]\((.+)\)", where)
    assert link
    shown, path = link.groups()
    assert path == f"../{shown}"
    assert (DOCS / path).is_file(), word
    defined = dict(_defined((DOCS / path).read_text()))
    for name, member in CLASS.findall(meaning):
        assert name in defined, f"{shown} defines no {name}"
        assert member in defined[name], f"{name} in {shown} has no {member}"


def _defined(source: str) -> list[tuple[str, set[str]]]:
    """The classes and aliases of a module, each with the names in it, and none."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found.append((node.name, {getattr(member, "name", "") for member in node.body} | {""}))
        elif isinstance(node, ast.Assign):
            found += [(name.id, {""}) for name in node.targets if isinstance(name, ast.Name)]
    return found
