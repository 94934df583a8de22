"""`make demo`: the service and loadgen together."""

import subprocess
import sys
from pathlib import Path


def test_demo_ends_with_the_verdict_of_loadgen() -> None:
    demo = Path(__file__).parents[2] / "loadgen" / "demo.py"
    ran = subprocess.run([sys.executable, demo], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert " listens on " in lines[0]
    assert lines[-1].startswith("OK: 4,000 events stored once, 1,000 duplicates dropped")
    assert "Traceback" not in ran.stderr
