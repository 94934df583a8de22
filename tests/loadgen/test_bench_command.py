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
    ended = bench(tmp_path, "--only", names, *SMALL, "--json", str(found), "--growth", "5000")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = from_json(found.read_bytes())
    assert [one.name for one in results.contests] == names.split(",")
    for contest in results.contests:
        assert contest.rate, f"{contest.name}: {contest.trouble}"
    assert results.growth
    assert not results.growth.trouble
    assert [step.size for step in results.growth.ours] == [5000]
    assert results.cloudevents
    assert not results.cloudevents.trouble
    assert [step.size for step in results.cloudevents.ours] == [1000]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["cache"]


def test_filled_store_is_published_to_in_all_ways_and_read(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    arguments = ["--only", "sqlite", *SMALL, "--filled", "8000", "--json", str(found)]
    ended = bench(tmp_path, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    filled = from_json(found.read_bytes()).filled
    assert filled
    assert not filled.trouble
    assert filled.size == 8000
    assert [disk.events for disk in filled.disks] == [4000, 4000]
    assert all(disk.sent > 0 and disk.stored > 0 for disk in filled.disks)
    for mix in filled.mixes:
        assert mix.rate, f"{mix.name}: {mix.trouble}"
    for read in filled.reads:
        assert not read.trouble
        assert len(read.seconds) == 3
    read = {(read.title, read.form): read.events for read in filled.reads}
    assert read["all", "one answer in NDJSON"] == 8000
    for name in {name for name, form in read if form == "pages"}:
        assert read[name, "pages"] == read[name, "one answer in NDJSON"]
    assert read["the last ones, by `since`", "pages"] == 1000
    assert read["what arrived last, by `received_since`", "one page"] == 100


def test_page_is_written_again_without_measuring(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.md"
    assert bench(tmp_path, "--only", "sqlite", *SMALL, "--json", str(first)).returncode == 0
    assert bench(tmp_path, "--results", str(first), "--output", str(second)).returncode == 0
    assert second.with_suffix(".json").read_bytes() == first.read_bytes()


def test_unknown_name_ends_the_command_and_lists_those_there_are(tmp_path: Path) -> None:
    ended = bench(tmp_path, "--only", "nobody")
    assert ended.returncode == 2
    assert "postgresql" in ended.stderr
