"""Builds that are broken in one place are caught: by the simulation, by a test, by the proof.

Each is one of `tests/mutants`; what catches it passes without it, which other tests show.
"""

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from aggregator.plugins import STORES, Plugins
from aggregator.store import Store
from running import MUTANTS, aggregator
from simulation.life import run_history

ROOT = Path(__file__).parent.parent
MOST = 400  # histories; nearly each is caught by one of the first ten

BY_THE_SIMULATION = [
    "counts-on-one-topic",
    "drops-early",
    "drops-released",
    "forgets-late",
    "frees-early",
    "goes-on-unproved",
    "holds-room",
    "keeps-bytes",
    "keeps-released",
    "mixes-strict",
    "names-the-undone",
    "runs-parts-together",
    "runs-undone-effects",
    "settles-what-failed",
    "shows-old-counters",
    "skips-at-the-page",
    "stops-short",
]
QUARANTINE = "http/test_quarantine.py::"
CONTRACT = "contracts/test_every_plugin.py::TestSqliteStore::"
PLAIN_STORE = "model/test_against_a_plain_store.py::"
BY_A_TEST = {
    "evicts-the-newest": QUARANTINE + "test_quarantine_keeps_the_newest_when_it_is_full",
    "exports-too-much": "http/test_export.py::"
    + "test_export_ends_with_what_was_there_at_its_start_while_more_is_published",
    "forgets-at-reopen": PLAIN_STORE + "test_long_history",
    "forgets-names": "http/test_keys.py::test_event_of_any_key_is_found_by_topic_and_id",
    "indexes-the-first-block": CONTRACT + "test_claim_takes_many_keys",
    "keys-by-spelling": "http/test_keys.py::test_equal_values_are_equal_parts_of_a_key",
    "merges-all-but-the-last": PLAIN_STORE + "test_long_history",
    "undoes-too-much": PLAIN_STORE + "test_long_history",
    "wakes-nobody": CONTRACT + "test_who_waits_for_news_hears_of_it_after_a_reopen",
}
BY_THE_PROOF = {"indexes-the-first-block": "each event is stored once"}
"""Others it finds by chance: what it kills when is the machine's to decide."""


@pytest.mark.parametrize("mutant", BY_THE_SIMULATION)
def test_broken_build_is_caught_by_the_simulation(
    mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "mutants")
    build = Plugins.installed().find(STORES, mutant).load(Store)  # type: ignore[type-abstract]
    build.change(monkeypatch.setattr)  # type: ignore[attr-defined]
    seeds = count()
    with pytest.raises(AssertionError):
        while (seed := next(seeds)) < MOST:
            run_history(seed)
    print(f"caught by history {seed}")


@pytest.mark.parametrize("mutant", BY_A_TEST)
def test_broken_build_is_caught_by_a_test(mutant: str) -> None:
    paths = str(ROOT), str(ROOT / "plugins"), MUTANTS["PYTHONPATH"]
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "mutants.applied"]
    ran = subprocess.run(
        [*command, "-p", "no:cacheprovider", f"tests/{BY_A_TEST[mutant]}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MUTANT": mutant},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    # One that no longer fits what it changes would fail every test.
    assert "TypeError" not in ran.stdout, ran.stdout


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("mutant", "broken"), BY_THE_PROOF.items())
def test_broken_build_is_caught_by_the_proof(mutant: str, broken: str, tmp_path: Path) -> None:
    command = "prove", "--json", "--store", f"{mutant}:///a.db", "--kills", "60"
    ran = aggregator(tmp_path, *command, environ=MUTANTS, seconds=300)
    assert ran.stdout, ran.stderr
    assert broken in [one["promise"] for one in json.loads(ran.stdout)["broken"]]
