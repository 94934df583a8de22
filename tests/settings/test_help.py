"""What `-h` says of each command: what it does, an example, and what its exit statuses mean."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from aggregator import config
from aggregator.cli.main import COMMANDS, main
from aggregator.config import HEADINGS

ROOT = Path(__file__).parents[2]
OTHERS = (["-m", "loadgen"], ["-m", "loadgen.bench"], ["loadgen/demo.py"])
WIDTH = 80

CONCERNED = {
    "serve": {setting.name for setting in config.each()},
    "settings": {setting.name for setting in config.each()},
    "plugins": {"pipeline"},
    "health": {"host", "port", "tls_cert", "tls_key"},
    "token": set(),  # each of its own: `tokens`, or where the service is
    "backup": {"store"},
    "check": {"store"},
    "change-key": {"store", "key"},
    "drop-index": {"store", "indexed"},
    "try": {"pipeline"},  # as an argument
    "new-stage": set(),
    "prove": {"store", "queue", "connections"},  # its own: so many it makes
}
"""By command, the settings that it has a flag for."""


def command_of(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command
    return command


def help_of(name: str) -> str:
    return CliRunner().invoke(main, [name, "-h"], terminal_width=WIDTH).output


def check(said: str) -> None:
    assert "\n  Example:\n    " in said
    assert "exit status" in said.lower()
    assert [line for line in said.splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name: str) -> None:
    check(help_of(name))
    assert command_of(name).get_short_help_str(WIDTH) == COMMANDS[name].summary


@pytest.mark.parametrize("arguments", OTHERS, ids=" ".join)
def test_programs_beside_it_are_explained(arguments: list[str]) -> None:
    said = [
        subprocess.run(
            [sys.executable, *arguments, flag], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for flag in ("-h", "--help")
    ]
    assert said[0] == said[1]
    check(said[0])


def test_commands_are_listed_with_what_they_do() -> None:
    said = CliRunner().invoke(main, ["-h"], terminal_width=WIDTH).output
    listed = re.findall(r"^  ([a-z-]+) +(.+)$", said.partition("Commands:\n")[2], re.MULTILINE)
    assert listed == [(name, entry.summary) for name, entry in COMMANDS.items()]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_flags_for_the_settings_that_concern_it(name: str) -> None:
    every = {setting.name for setting in config.each()}
    assert {option.name for option in command_of(name).params} & every == CONCERNED[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_commands_that_can_be_given(name: str) -> None:
    examples = re.findall(rf"^    aggregator {name}(.*?)(?:  +\(.*)?$", help_of(name), re.MULTILINE)
    assert examples
    for example in examples:
        command_of(name).make_context(name, shlex.split(example))


@pytest.mark.parametrize("name", ["serve", "settings"])
def test_settings_stand_under_their_headings(name: str) -> None:
    found: dict[str, list[str]] = {}
    for heading, flag in re.findall(r"^(\w[\w ]+):$|^  --([a-z-]+)", help_of(name), re.MULTILINE):
        if heading:
            found[heading] = []
        elif flag:
            found[list(found)[-1]].append(flag.replace("-", "_"))
    del found["Options"]
    assert found == {heading: list(names) for heading, names in HEADINGS.items()}


def test_unknown_command_is_refused_in_a_line() -> None:
    refused = CliRunner().invoke(main, ["srve"])
    assert refused.exit_code == 2
    assert "No such command 'srve'" in refused.output
