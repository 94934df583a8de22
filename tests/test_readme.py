"""What the README shows is what happens, and its figures are those of the pages that it links."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from blocks import blocks
from running import Service

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHOWN_URL = "http://127.0.0.1:8080"


def test_first_commands_are_those_that_start_it_and_test_it() -> None:
    commands = [line.split("#")[0].strip() for line in blocks(README, "sh")[0].splitlines()]
    assert commands == ["make run", "make test"]
    assert README.index("```sh\n") == README.index("```"), "they are in the first block of all"


def test_event_that_is_sent_again_after_a_kill_is_answered_as_the_readme_says(
    service: Service,
) -> None:
    service.start()
    publish = blocks(README, "sh")[1]
    for shown in blocks(README, "json"):
        command = publish.replace(SHOWN_URL, service.url)
        said = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
        assert _untimed(said) == _untimed(shown)
        service.kill()
        service.start()


def _untimed(answer: str | bytes) -> object:
    content = json.loads(answer)
    for result in content["results"]:
        assert ("received_at" in result) == (result["status"] == "duplicate")
        result.pop("received_at", None)
    return content


def test_number_to_kill_is_that_of_the_service(service: Service) -> None:
    assert "`stop      Ctrl-C, or kill 28156`" in README
    service.start()
    output = service.process.stdout
    assert output
    assert f"  stop      Ctrl-C, or kill {service.process.pid}\n" in [
        next(output) for _ in range(4)
    ]


def test_what_make_run_says_is_in_the_readme(service: Service) -> None:
    (shown,) = (block for block in blocks(README, "console") if block.startswith("$ make run\n"))
    service.start()
    output = service.process.stdout
    assert output
    listens = f"aggregator 0 listens on {SHOWN_URL}"
    said = [listens, *(next(output).rstrip() for _ in range(4))]
    assert "Ctrl-C" in said[-1], "it says no more"
    made = [line for line in shown.splitlines()[1:] if _is_said_by_make(line)]
    assert len(made) == 2
    assert [*made, *map(_anywhere, said)] == [_anywhere(line) for line in shown.splitlines()[1:]]


def _is_said_by_make(line: str) -> bool:
    said = re.findall(r"@echo '(.+)'", (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv"))
    return line in said


def _anywhere(line: str) -> str:
    """Without what differs from one machine to the next."""
    line = re.sub(r"^aggregator \S+", "aggregator 0", line)
    line = re.sub(r"SQLite \S+ in \S*/data/", "SQLite 3 in data/", line)
    line = re.sub(r"kill \d+$", "kill 1", line)
    return re.sub(r"http://127\.0\.0\.1:\d+", SHOWN_URL, line)


def test_figure_of_the_kills_is_the_one_that_was_proved() -> None:
    (figure,) = re.findall(r"\*\*([\d,]+ kills, .+?)\*\*: .*\(docs/reliability\.md\)", README)
    assert f"`OK: {figure}, the counters add up" in (ROOT / "docs" / "reliability.md").read_text()


@pytest.mark.parametrize(
    ("row", "figure"),
    [
        ("100 events a request", r"\*\*([\d,]+) events/s\*\* stored durably, 100 a request"),
        ("one event a request", r"; ([\d,]+) events/s one by one"),
    ],
)
def test_figure_of_the_rate_is_the_one_that_was_measured(row: str, figure: str) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text().partition("**This service**")[2]
    measured = re.search(rf"^\| {row} \| [\d,]+ \| \d+ \| ([\d,]+) \|", page, re.MULTILINE)
    assert measured
    assert re.findall(figure, README) == [measured[1]]


def test_proof_that_is_shown_is_the_one_of_the_page() -> None:
    (shown,) = (block for block in blocks(README, "console") if "aggregator prove" in block)
    lines = shown.replace(".venv/bin/", "").splitlines()
    page = (ROOT / "docs" / "reliability.md").read_text().splitlines()
    assert lines[0].startswith("$ aggregator prove ")
    assert [line for line in lines if line != "…" and line not in page] == []


def test_pictures_for_light_and_dark_differ_in_colours_alone() -> None:
    light, dark = (
        (ROOT / "docs" / f"event-{scheme}.svg").read_text() for scheme in ("light", "dark")
    )
    assert light != dark
    assert re.sub("#[0-9a-f]{6}", "", light) == re.sub("#[0-9a-f]{6}", "", dark)
