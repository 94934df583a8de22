"""The page of promises names functions, tests and broken plugins that are there."""

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple

import pytest

from aggregator.prove.journal import Promise
from linked import FUNCTION, defined

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "promises.md").read_text()
TO_A_TEST = re.compile(r"test_\w+|\w+\.test_\w+")
PLUGIN = re.compile(r"`([a-z-]+)`")
UNBROKEN = "A stage has no call that commits"
"""The one promise that no plugin can break and pass for one of its kind."""
BREAK_NOTHING = {"chatty", "small-runs"}


class Told(NamedTuple):
    """What the page says of a promise."""

    promise: str
    names: str
    code: str
    tests: str
    broken: str


def told() -> Iterator[Told]:
    for section in PAGE.partition("\n## Broken on purpose\n")[0].split("\n## ")[1:]:
        parts = re.fullmatch(
            r"(.+)\n\n(.+)\n\n- kept by (.+)\n- shown by\n((?:  - .+\n)+)- broken by (.+)\n",
            section,
        )
        assert parts, section
        yield Told(*parts.groups())


def mutants() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each plugin, and the tests that catch it: those of its row, or of what is above its table."""
    above: list[tuple[str, str]] = []
    for line in PAGE.partition("\n## Broken on purpose\n")[2].splitlines():
        found = FUNCTION.findall(line)
        if line.startswith("| `"):
            yield PLUGIN.findall(line)[0], found or above
        elif found:
            above = found


PROMISES = list(told())
MUTANTS = list(mutants())


def test_promises_are_those_of_the_other_pages_and_of_the_proof() -> None:
    named = [name for one in PROMISES for name in re.findall(r"\*(.+?)\*", one.names)]
    stays_true = (DOCS / "architecture.md").read_text().partition("## What stays true")[2]
    first = [
        name.rstrip(".") for name in re.findall(r"^\d\. \*\*(.+?)\*\*", stays_true, re.MULTILINE)
    ]
    assert len(first) == 9
    assert named[: len(first)] == first
    reliability = (DOCS / "reliability.md").read_text().lower().replace("*", "")
    assert len(named) == len(first) + 2
    assert [name for name in named[len(first) :] if name.lower() not in reliability] == []
    proved = [name for one in PROMISES for name in re.findall("«(.+?)»", one.names)]
    assert sorted(proved) == sorted(promise.value for promise in Promise)


@pytest.mark.parametrize("one", PROMISES, ids=lambda one: one.promise)
def test_promise_has_code_that_keeps_it_a_test_and_what_breaks_it(one: Told) -> None:
    code, tests = FUNCTION.findall(one.code), FUNCTION.findall(one.tests)
    assert code
    assert len(tests) == len(one.tests.splitlines())
    for name, path in code + tests:
        assert name in defined(ROOT / path), f"{path} has no {name}"
    assert all(TO_A_TEST.fullmatch(name) for name, _ in tests)
    assert bool(PLUGIN.findall(one.broken)) is (one.promise != UNBROKEN)


def test_every_mutant_is_on_the_page_and_breaks_a_promise() -> None:
    registered = ConfigParser()
    registered.read(ROOT / "tests" / "mutants" / "mutants-1.0.dist-info" / "entry_points.txt")
    there = {name for section in registered.sections() for name in registered[section]}
    listed = {name for name, _ in MUTANTS}
    assert len(listed) == len(MUTANTS)
    assert listed == there - BREAK_NOTHING | {"memory"}
    assert {name for one in PROMISES for name in PLUGIN.findall(one.broken)} == listed


@pytest.mark.parametrize(("mutant", "tests"), MUTANTS, ids=[name for name, _ in MUTANTS])
def test_mutant_is_tried_by_the_tests_that_catch_it(
    mutant: str, tests: list[tuple[str, str]]
) -> None:
    assert tests
    for name, path in tests:
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
