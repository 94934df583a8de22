"""A store that a failing test leaves open is the failure of that test alone."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
FAILING = """
import gc
import pytest
from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator_sqlite.store import SqliteStore

async def test_that_fails_before_it_closes_its_store(tmp_path):
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    assert not "so"

@pytest.mark.parametrize("number", range(3))
def test_beside_it(number):
    gc.collect()
"""


def test_failing_test_that_leaves_a_store_open_neither_fails_others_nor_keeps_pytest(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_failing.py").write_text(FAILING)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nfilterwarnings = error\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "left_open", "test_failing.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 failed, 3 passed" in ran.stdout, ran.stdout + ran.stderr
