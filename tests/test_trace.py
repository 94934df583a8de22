"""`make trace` shows the way of an event."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_way_of_an_event_leads_past_what_declares_duplicates_and_what_commits() -> None:
    said = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "trace_event.py"), "duplicate"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    totals = dict(re.findall(r"^(\w+) +(\d+) +[\d,]+ +\d+$", said, re.MULTILINE))
    assert list(totals) == ["new", "duplicate", "conflict", "invalid"]
    files = re.findall(r"^ *\d+  (\S+) \(\d+\)\n((?: {9}.*\n)*)", said, re.MULTILINE)
    assert len(files) == int(totals["duplicate"])
    functions = {path: re.split(r",\s+", names.strip()) for path, names in files}
    assert "Dedup.process" in functions["plugins/aggregator_stages/dedup.py"]
    assert "_commit" in functions["plugins/aggregator_sqlite/transaction.py"]
    assert all((ROOT / path).is_file() for path in functions)
