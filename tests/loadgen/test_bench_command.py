"""A run in small, with real processes: what is measured is not looked at, only that it is."""

import subprocess
import sys
from pathlib import Path

from loadgen.bench.results import from_json

SMALL = ["--rounds", "1", "--events", "2000", "--singles", "200", "--seconds", "1"]


def bench(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "loadgen.bench", "--folder", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_limits_ours_and_the_naive_design_are_measured(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    names = "sqlite,sqlite-ordered,aiohttp,ours-1,ours-ndjson,ours-100-again,naive"
    ended = bench(tmp_path, "--only", names, *SMALL, "--json", str(found), "--growth", "4000")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = from_json(found.read_bytes())
    assert [one.name for one in results.contests] == names.split(",")
    for contest in results.contests:
        assert contest.rate, f"{contest.name}: {contest.trouble}"
    assert results.growth
    assert not results.growth.trouble
    assert [step.size for step in results.growth.ours] == [4000]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["cache"]


def test_page_is_written_again_without_measuring(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.md"
    assert bench(tmp_path, "--only", "sqlite", *SMALL, "--json", str(first)).returncode == 0
    assert bench(tmp_path, "--results", str(first), "--output", str(second)).returncode == 0
    assert second.with_suffix(".json").read_bytes() == first.read_bytes()


def test_unknown_name_ends_the_command_and_lists_those_there_are(tmp_path: Path) -> None:
    ended = bench(tmp_path, "--only", "nobody")
    assert ended.returncode == 2
    assert "postgresql" in ended.stderr
