"""The page of promises names functions, tests and broken plugins that are there."""

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from aggregator.prove.journal import Promise
from linked import FUNCTION, defined

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "promises.md").read_text()
TEST = re.compile(r"\[[^]]+\]\(\.\./([\w/]+\.py) \"([\w.]+)\"\)")
PROMISES, MUTANTS = (
    re.findall(r"^\| (?!promise|plugin|---)(.+) \|$", part, re.MULTILINE)
    for part in PAGE.split("## Broken on purpose")
)
BREAK_NOTHING = {"chatty", "small-runs"}
NO_PLUGINS_OF_TESTS = {"memory", "Commits"}


def test_promises_are_those_of_the_other_pages() -> None:
    named = [row.split(" | ")[0] for row in PROMISES]
    stays_true = (DOCS / "architecture.md").read_text().partition("## What stays true")[2]
    first = [
        name.rstrip(".") for name in re.findall(r"^\d\. \*\*(.+?)\*\*", stays_true, re.MULTILINE)
    ]
    assert len(first) > 5
    assert named[: len(first)] == first
    told = (DOCS / "reliability.md").read_text().lower().replace("*", "")
    told += " ".join(promise.value for promise in Promise)
    assert [name for name in named[len(first) :] if name.lower() not in told] == []


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.split(" | ")[0])
def test_promise_has_code_that_keeps_it_a_test_and_what_breaks_it(row: str) -> None:
    _, code, tests, broken = row.split(" | ")
    assert FUNCTION.findall(code)
    assert TEST.findall(tests)
    for name, path in FUNCTION.findall(code):
        assert name in defined(ROOT / path), f"{path} has no {name}"
    for path, name in TEST.findall(tests):
        assert name in defined(ROOT / path), f"{path} has no {name}"
        assert name.rpartition(".")[2].startswith("test_")
    assert re.findall(r"`([\w-]+)`", broken)


def test_every_mutant_is_on_the_page_and_breaks_a_promise() -> None:
    registered = ConfigParser()
    registered.read(ROOT / "tests" / "mutants" / "mutants-1.0.dist-info" / "entry_points.txt")
    there = {name for section in registered.sections() for name in registered[section]}
    listed = [row.split("`")[1] for row in MUTANTS]
    assert listed == sorted(listed, key=str.lower)
    assert set(listed) == there - BREAK_NOTHING | NO_PLUGINS_OF_TESTS
    breaking = {name for row in PROMISES for name in re.findall(r"`([\w-]+)`", row.split(" | ")[3])}
    assert breaking == set(listed)


@pytest.mark.parametrize("row", MUTANTS, ids=lambda row: row.split("`")[1])
def test_mutant_is_tried_by_the_tests_that_catch_it(row: str) -> None:
    mutant, _, caught = row.split(" | ")
    mutant = mutant.strip("`")
    tests = TEST.findall(caught)
    assert tests
    for path, name in tests:
        assert any(
            word == mutant or word.startswith(f"{mutant}:") for word in words(ROOT / path, name)
        ), f"{path}::{name} does not try it"


def words(path: Path, test: str) -> Iterator[str]:
    """The texts in a test, in its decorators, and in what these name in its module."""
    tree = ast.parse(path.read_text())
    (function,) = (node for node in tree.body if getattr(node, "name", "") == test)
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    named = (
        node
        for node in tree.body
        if isinstance(node, ast.Assign)
        and names & {getattr(target, "id", "") for target in node.targets}
    )
    for part in (function, *named):
        for node in ast.walk(part):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
