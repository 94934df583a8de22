"""The store that others are held against keeps the contract: that of every store, no mixin's."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.testing import contract_of
from blocks import blocks
from plain_store import PlainStore

TESTS = Path(__file__).parent.parent
DOCS = TESTS.parent / "docs" / "writing-a-store.md"


class TestPlainStore(contract_of(PlainStore)):  # type: ignore[misc]
    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[], PlainStore]:
        return lambda: PlainStore(f"plain:{tmp_path}/plain.db")


def test_suite_is_run_as_the_docs_say(tmp_path: Path) -> None:
    (suite,) = blocks(DOCS.read_text(), "python")
    (tmp_path / "test_my_store.py").write_text(suite)
    (tmp_path / "my_store.py").write_text("from plain_store import PlainStore as MyStore")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "savepoint"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout
