"""docs/writing-a-stage.md, as an author follows it: its files, its commands, what they print."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import pytest

from aggregator.errors import StageFault
from aggregator.event import Event, PayloadKind
from aggregator.outcome import Fault, Invalid
from aggregator.pipeline.runner import NamedStage, StageRunner
from aggregator.stage import IntakeStage
from aggregator.testing import make_event
from blocks import blocks
from events import event
from running import LIMIT, Service

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-a-stage.md").read_text()
FILES = dict(re.findall(r"`([\w.]+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
EXAMPLES = re.findall(
    r"^```sh\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", PAGE, re.DOTALL | re.MULTILINE
)
SERVE, FOLLOW = "aggregator serve ", "python follow.py "

# What is editable cannot be put into a folder.
PIP = f"""#!/bin/sh
[ "$2" != -e ] || set -- install "${{3%%\\[*}}"
exec {sys.executable} -m pip "$@" --quiet --disable-pip-version-check \\
    --no-deps --no-build-isolation --no-index --target "$INSTALLED"
"""


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of an author; what pip installs goes into a folder that this alone knows."""
    folder = tmp_path_factory.mktemp("environ")
    pip = folder / "bin" / "pip"
    pip.parent.mkdir()
    pip.write_text(PIP)
    pip.chmod(0o755)
    installed = str(folder / "installed")
    places = [str(pip.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    paths = filter(None, (installed, os.environ.get("PYTHONPATH")))
    return {
        "INSTALLED": installed,
        "PATH": os.pathsep.join(places),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text)


def run(folder: Path, environ: dict[str, str], commands: str, status: int = 0) -> tuple[str, str]:
    """What the commands print, and what they say besides."""
    ran = subprocess.run(
        ["sh", "-ec", commands],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=3 * LIMIT,
        check=False,
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran.stdout, ran.stderr


def test_every_block_is_run_here() -> None:
    assert list(FILES.values()) == blocks(PAGE, "python")
    commands = [command for command, _ in EXAMPLES]
    assert commands == blocks(PAGE, "sh")
    assert sum(command.startswith((SERVE, FOLLOW)) for command in commands) == 2
    assert len([text for _, text in EXAMPLES if text]) + 1 == len(blocks(PAGE, "text"))
    assert len(blocks(PAGE, "toml")) == 2
    assert len(re.findall("^```", PAGE, re.MULTILINE)) == 2 * (
        len(FILES) + len(EXAMPLES) + len(blocks(PAGE, "text")) + 2
    )


def test_author_who_follows_the_page_sees_what_it_shows(
    service: Service, tmp_path: Path, environ: dict[str, str]
) -> None:
    write_files(tmp_path)
    for command, shown in EXAMPLES:
        if not command.startswith((SERVE, FOLLOW)):
            printed, _ = run(tmp_path, environ, command)
            assert not shown or printed == shown
    assert "aggregator_drop_small:DropSmall" in printed_by("aggregator plugins", tmp_path, environ)

    entry, settings = blocks(PAGE, "toml")
    assert entry in (tmp_path / "aggregator-drop-small" / "pyproject.toml").read_text()
    (tmp_path / "aggregator.toml").write_text(settings)
    (serve,) = (shlex.split(command) for command, _ in EXAMPLES if command.startswith(SERVE))
    service.start(*serve[2:], environ=environ)
    told = service.publish([event(str(n), payload={"amount": n}) for n in (49, 50)])[1]
    assert [one["status"] for one in told["results"]] == ["filtered", "stored"]


def printed_by(command: str, folder: Path, environ: dict[str, str]) -> str:
    return run(folder, environ, command)[0]


def test_fault_of_the_page_is_what_its_change_brings(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    broken = FILES["drop_small.py"].replace('payload.get("amount", 10)', 'payload["amount"]')
    (tmp_path / "drop_small.py").write_text(broken)
    _, said = run(tmp_path, environ, EXAMPLES[0][0], status=1)
    (shown,) = (text for text in blocks(PAGE, "text") if text.startswith("fault:"))
    assert without_marks(said) == without_marks(shown)


def without_marks(text: str) -> list[str]:
    """The lines, without the marks that only some versions of Python set below code."""
    return [line for line in text.splitlines() if set(line) - set(" ~^")]


class NotAsync(IntakeStage):
    def process(self, events: Sequence[Event]) -> Any:
        return events


class Losing(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        return events[1:]


class Copying(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        return [copy(event) for event in events]


class Turning(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        return events[::-1]


class Misplacing(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        events[0].settle(Invalid((Fault("amount", "Send a number."),)))
        return events[1:]


async def test_faults_of_the_page_are_told_in_its_words() -> None:
    table = PAGE.partition("\n| it says |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| `+(.+?) ?`+ \|", table, re.MULTILINE)
    stages = [NotAsync(), Losing(), Copying(), Turning(), Misplacing()]
    for stage, words in zip(stages, told, strict=True):
        runner = StageRunner([NamedStage("mine", stage)], LIMIT, pytest.fail)
        with pytest.raises(StageFault, match=re.escape(words)):
            await runner.run([make_event("1"), make_event("2", index=1)])


def test_make_event_has_what_the_page_says() -> None:
    table = PAGE.partition("\n| member | unless it is given |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", table, re.MULTILINE)
    one = make_event("1")
    named = []
    for names, value in rows:
        named += re.findall(r"`(\w+)`", names)
        for name, shown in zip(
            re.findall(r"`(\w+)`", names), re.findall("`(.+?)`", value), strict=False
        ):
            assert getattr(one, name) == eval(shown, {"PayloadKind": PayloadKind}), name
    assert len(named) == 8


def test_every_member_of_an_event_is_on_the_page() -> None:
    section = PAGE.partition("\n## What an event holds\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    others = re.findall(r"^(.*) are the pipeline's own", section, re.MULTILINE)
    named = {name for text in cells + others for name in re.findall(r"`(\w+)`", text)}
    members = {*Event.__struct_fields__, "outcome", "timestamp_us"}
    assert named == members


@contextmanager
def following(folder: Path, url: str) -> Iterator["subprocess.Popen[str]"]:
    """The page's client of the stream, killed at the end."""
    started = subprocess.Popen(
        [sys.executable, "follow.py", url],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait(LIMIT)
        assert started.stdout
        assert started.stderr
        started.stdout.close()
        started.stderr.close()


def sent(client: "subprocess.Popen[str]", last: int) -> list[int]:
    """The seqs that it sends on, up to that one."""
    assert client.stdout
    seqs: list[int] = []
    while last not in seqs:
        seqs.append(json.loads(next(client.stdout))["seq"])
    return seqs


def publish(service: Service, *numbers: int) -> None:
    events: list[Any] = [event(str(number), "orders") for number in numbers]
    assert service.publish(events)[1]["stored"] == len(numbers)


def test_who_follows_the_stream_misses_nothing_and_repeats_what_was_not_noted(
    service: Service, tmp_path: Path
) -> None:
    write_files(tmp_path)
    (command,) = (shlex.split(one) for one, _ in EXAMPLES if one.startswith(FOLLOW))
    url = command[-1].replace("http://127.0.0.1:8080", service.start())
    publish(service, *range(1, 11))
    with following(tmp_path, url) as client:
        first = sent(client, 10)
    publish(service, *range(11, 21))
    noted = int((tmp_path / "place").read_text())
    with following(tmp_path, url) as client:
        second = sent(client, 20)
    assert first == list(range(1, 11))
    assert noted >= 9
    assert second == list(range(noted + 1, 21))


def test_who_follows_the_stream_goes_on_after_the_service_has_started_again(
    service: Service, tmp_path: Path, listening: socket.socket
) -> None:
    write_files(tmp_path)
    service.hand_over(listening)
    url = service.start()
    publish(service, 1)
    with following(tmp_path, f"{url}/events/stream") as client:
        assert sent(client, 1) == [1]
        service.kill()
        service.start()
        publish(service, 2)
        assert set(sent(client, 2)) <= {1, 2}


def test_who_follows_the_stream_is_told_what_the_service_says_and_where_nobody_answers(
    service: Service, tmp_path: Path
) -> None:
    write_files(tmp_path)
    (tmp_path / "place").write_text("1\n")  # as an editor leaves it
    url = service.start()
    refused = subprocess.run(
        [sys.executable, "follow.py", f"{url}/events/stream?limit=x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("HTTP Error 4")
    assert "limit" in refused.stderr
    publish(service, 1, 2)
    with following(tmp_path, f"{url}/events/stream") as client:
        assert sent(client, 2) == [2]
        service.kill()
        assert client.stderr
        assert "nobody answers" in next(client.stderr)
