"""Every example of the HTTP API's page answers as the page says, and every call has one."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from aggregator.app import create_app
from aggregator.config import load
from aggregator.plugins import Plugins
from calls import calls
from running import Service, until

PAGE = Path(__file__).parent.parent / "docs" / "http-api.md"
SHOWN_URL = "http://127.0.0.1:8080"

_EXAMPLE = re.compile(
    r"^```sh\n(.*?)^```\n(?:\s*^```(json|text)\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
_MASKED = {
    "received_at",
    "kept_at",
    "first_seen_at",
    "last_seen_at",
    "uptime_seconds",
    "submission",
    "failures",
}
_MASKED_TEXT = re.compile(
    rf'("(?:{"|".join(sorted(_MASKED))})": ?)("[^"]*"|[0-9.]+)|^(Date: ).*$', re.MULTILINE
)
_TIME_IS_UP = 28
_WITH_BODY = re.compile("-d|--data.*|-T|--upload-file|--json")


@dataclass(frozen=True)
class Example:
    """Commands of the page, and what they answer as far as it is shown."""

    line: int
    commands: str
    language: str | None
    answer: str | None

    def is_endless(self, status: int) -> bool:
        """Whether curl ended as it was told to: a stream has no end of its own."""
        return status == _TIME_IS_UP and "--max-time" in self.commands

    def problem(self, said: str) -> str | None:
        """How what the commands said differs from what is shown."""
        if self.answer is None:
            return None
        try:
            expected, came = self._masked(self.answer), self._masked(said)
        except ValueError as error:
            return self.told(f"no JSON: {error}", said)
        return None if expected == came else self.told(self.answer, said)

    def told(self, expected: str, came: str) -> str:
        return (
            f"{PAGE.name}, line {self.line}:\n{self.commands}\n"
            f"--- shown\n{expected.strip()}\n--- came\n{came.strip()}\n"
        )

    def _masked(self, text: str) -> Any:
        if self.language == "json":
            return _mask(json.loads(text))
        lines = _MASKED_TEXT.sub(r"\1\3…", text.replace("\r", "")).strip().splitlines()
        return [line.rstrip() for line in lines]


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "…" if name in _MASKED else _mask(one) for name, one in value.items()}
    return [_mask(one) for one in value] if isinstance(value, list) else value


def _examples() -> Iterator[Example]:
    text = PAGE.read_text()
    for found in _EXAMPLE.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        yield Example(line, found[1], found[2], found[3])


def _requests(commands: str) -> Iterator[tuple[str, str]]:
    """Method and target of every curl among the commands."""
    for part in " ".join(shlex.split(commands)).split("curl ")[1:]:
        urls = re.findall(rf"{SHOWN_URL}(\S*)", part)
        words = part.split()
        method = "POST" if any(_WITH_BODY.fullmatch(word) for word in words) else "GET"
        if "-X" in words:
            method = words[words.index("-X") + 1]
        yield from ((method, url or "/") for url in urls)


def test_every_example_answers_as_shown(service: Service) -> None:
    service.start()
    problems = []
    for example in _examples():
        ran = subprocess.run(
            ["sh", "-ec", example.commands.replace(SHOWN_URL, service.url)],
            cwd=service.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if ran.returncode and not example.is_endless(ran.returncode):
            problems.append(example.told(f"exit status {ran.returncode}", ran.stderr))
        elif problem := example.problem(ran.stdout.replace(service.url, SHOWN_URL)):
            problems.append(problem)
        until(lambda: not service.call("/stats")[1]["queue_size_current"], "all is settled")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


async def test_every_call_has_an_example() -> None:
    app = create_app(load({"store": "memory:"}, {}), Plugins.installed())
    tried = set()
    for example in _examples():
        for method, target in _requests(example.commands):
            url = URL(target, encoded=True)
            match = await app.router.resolve(make_mocked_request(method, str(url)))
            assert match.http_exception is None, f"line {example.line}: {method} {target}"
            assert match.route.resource
            tried.add(f"{method} {match.route.resource.canonical}")
    assert sorted(set(calls(app.router.routes())) - tried) == []
