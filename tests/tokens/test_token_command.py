"""`aggregator token`, and a service that is closed where nobody said that it is open."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from running import Service, aggregator, until

TOKEN = re.compile(r"agg_[A-Za-z0-9]{10}_[A-Za-z0-9]{43}_[0-9a-f]{8}")
FLAGS = ("--tokens", "tokens.json")


def new(folder: Path, name: str, *more: str) -> str:
    made = aggregator(folder, "token", "new", name, *more, *FLAGS)
    assert made.returncode == 0, made.stderr
    assert TOKEN.fullmatch(made.stdout.strip())
    return made.stdout.strip()


def listed(folder: Path) -> "subprocess.CompletedProcess[str]":
    return aggregator(folder, "token", "list", *FLAGS)


def test_token_is_made_listed_rotated_and_revoked(tmp_path: Path) -> None:
    text = new(tmp_path, "web", "--scope", "publish", "--topics", "orders.*", "--source", "w")
    secret = text.split("_")[2]
    assert secret not in (tmp_path / "tokens.json").read_text()
    told = listed(tmp_path)
    assert "web" in told.stdout
    assert "orders.*" in told.stdout
    assert secret not in told.stdout
    rotated = aggregator(tmp_path, "token", "rotate", "web", "--overlap", "1h", *FLAGS)
    assert TOKEN.fullmatch(rotated.stdout.strip())
    assert rotated.stdout.strip() != text
    whole = json.loads(aggregator(tmp_path, "token", "list", "--json", *FLAGS).stdout)
    (one,) = whole["tokens"]
    assert len(one["secrets"]) == 2
    assert "sha256" not in json.dumps(whole)
    assert aggregator(tmp_path, "token", "revoke", "web", *FLAGS).returncode == 0
    assert "web" not in listed(tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("new", "web", "--scope", "read", *FLAGS), "there is one named web"),
        (("new", "a b", "--scope", "read", *FLAGS), "name"),
        (("new", "x", "--scope", "read", "--topics", "a*b", *FLAGS), "pattern of topics"),
        (("new", "x", "--scope", "all", *FLAGS), "all"),
        (("new", "x", *FLAGS), "--scope"),
        (("new", "x", "--scope", "read", "--rate", "inf", *FLAGS), "float"),
        (("new", "x", "--scope", "read", "--expires", "soon", *FLAGS), "no time"),
        (("rotate", "other", *FLAGS), "there is none named other; there are: web"),
        (("revoke", "other", *FLAGS), "there is none named other"),
        (("list",), "name the file"),
        (("list", "--tokens", "missing.json"), "no file missing.json"),
        (("new", "x", "--scope", "read", "--tokens", "no/folder.json"), "cannot write"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    new(tmp_path, "web", "--scope", "publish")
    before = (tmp_path / "tokens.json").read_bytes()
    said = aggregator(tmp_path, "token", *arguments)
    assert said.returncode == 2
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert (tmp_path / "tokens.json").read_bytes() == before


def test_service_says_what_a_token_is_for(service: Service) -> None:
    text = new(service.folder, "web", "--scope", "publish")
    url = service.start(*FLAGS)
    environ = {"AGGREGATOR_TOKEN": text}
    said = aggregator(service.folder, "token", "whoami", "--url", url, environ=environ)
    assert json.loads(said.stdout)["name"] == "web"
    assert "no setting of ours" not in said.stderr
    said = aggregator(service.folder, "token", "whoami", "--url", url)
    assert said.returncode == 1
    assert "asks for a token" in said.stderr


def test_start_beyond_loopback_says_both_ways_out(service: Service) -> None:
    refused = aggregator(service.folder, "serve", "--port", "0", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "aggregator token new NAME" in refused.stderr
    assert "AGGREGATOR_OPEN=true" in refused.stderr
    assert not (service.folder / "data").exists()
    service.start("--host", "0.0.0.0", environ={"AGGREGATOR_OPEN": "true"})
    service.stop()
    new(service.folder, "web", "--scope", "read")
    service.start("--host", "0.0.0.0", *FLAGS)
    assert service.call("/events")[0] == 401
    assert service.call("/healthz")[0] == 200


def test_token_is_revoked_while_the_service_runs(service: Service) -> None:
    text = new(service.folder, "web", "--scope", "read")
    url = service.start(*FLAGS)
    request = urllib.request.Request(f"{url}/events", headers={"Authorization": f"Bearer {text}"})
    assert _status(request) == 200
    aggregator(service.folder, "token", "revoke", "web", *FLAGS)
    until(lambda: _status(request) == 401, "the token lets nobody in")
    assert "tokens gone: web" in service.said()


def _status(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_setting_that_names_no_file_stops_the_start(tmp_path: Path) -> None:
    for command in ("serve", "settings"):
        said = aggregator(tmp_path, command, "--tokens", "missing.json")
        assert said.returncode == 2
        assert "no file missing.json" in said.stderr
