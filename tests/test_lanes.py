"""The lanes name tests that there are, and `make test` and `make test-rest` run all of them."""

import ast
from pathlib import Path

import pytest

import lanes

TESTS = Path(__file__).parent
NAMED = [
    pytest.param(file, names, id=file)
    for tests in (*lanes.SAMPLE.values(), lanes.LONG, lanes.ALONE)
    for file, names in tests.items()
]


@pytest.mark.parametrize(("file", "names"), NAMED)
def test_every_test_that_a_lane_names_is_there(file: str, names: tuple[str, ...]) -> None:
    tree = ast.parse((TESTS / file).read_text())
    found = {node.name for node in tree.body if hasattr(node, "name")}
    found |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert set(names) <= found


def test_sampled_folders_are_there_and_only_they_have_a_sample() -> None:
    folders = {file.partition("/")[0] for tests in lanes.SAMPLE.values() for file in tests}
    assert folders == set(lanes.SAMPLED)


def test_both_lanes_together_run_everything() -> None:
    """What one leaves out the other runs, whatever the marks."""
    makefile = (TESTS.parent / "Makefile").read_text()
    chosen = [
        line.partition("-m ")[2].strip("'") for line in makefile.splitlines() if "-m " in line
    ]
    assert [one for one in chosen if "rest" in one or "alone" in one] == [
        "not rest",
        "rest and not alone",
        "alone",
    ]
