"""deploy/nginx.conf in a real nginx: bodies, names, addresses and streams go through it."""

import json
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events import event
from imports import ROOT
from running import Service, aggregator, until

NAME = "events.example.org"


class Nginx:
    """The proxy on a port of its own, in front of a service."""

    def __init__(self, folder: Path, port: int, service: int) -> None:
        self.port = port
        certificate, key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
                *("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        site = (ROOT / "deploy" / "nginx.conf").read_text()
        site = site.replace("127.0.0.1:8080", f"127.0.0.1:{service}")
        site = site.replace("listen 443", f"listen 127.0.0.1:{port}")
        site = re.sub(r"ssl_certificate \S+;", f"ssl_certificate {certificate};", site)
        site = re.sub(r"ssl_certificate_key \S+;", f"ssl_certificate_key {key};", site)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log {folder}/access.log;\n{temporary}{site} }}\n"
        )
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.trusted = ssl.create_default_context(cafile=str(certificate))

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        given = {"Host": NAME, "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", body, given)
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.trusted) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return self.ask("/healthz")[0] == 200
        except OSError:
            return False


@pytest.fixture
def token(service: Service) -> str:
    """A token for everything."""
    scopes = ("--scope", "publish", "--scope", "read", "--tokens", "tokens.json")
    return aggregator(service.folder, "token", "new", "a", *scopes).stdout.strip()


@pytest.fixture
def nginx(service: Service, token: str, tmp_path: Path, unused_tcp_port: int) -> Iterator[Nginx]:
    """nginx in front of a service with tokens."""
    assert token
    if not shutil.which("nginx") or not shutil.which("openssl"):
        pytest.skip("nginx is not installed")
    url = service.start(
        *("--tokens", "tokens.json", "--hosts", NAME, "--proxies", "127.0.0.1", "--access-log")
    )
    folder = tmp_path / "nginx"
    folder.mkdir()
    proxy = Nginx(folder, unused_tcp_port, int(url.rpartition(":")[2]))
    try:
        until(proxy.is_up, "nginx answers")
        yield proxy
    finally:
        proxy.process.terminate()
        proxy.process.wait(10)


def test_what_goes_through_is_as_without_it(service: Service, nginx: Nginx, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    assert nginx.ask("/publish", b"{}")[0] == 401
    large = [event(str(number), payload={"filler": "x" * 500_000}) for number in range(10)]
    status, answer = nginx.ask("/publish", json.dumps(large).encode(), **bearer)
    assert (status, answer["stored"]) == (200, 10), "more than the 1 MiB that nginx takes alone"
    status, answer = nginx.ask("/events", Host="elsewhere.example", **bearer)
    assert status == 421
    forged = {"X_Forwarded_For": "192.0.2.1", **bearer}
    assert nginx.ask("/events", **forged)[0] == 200
    assert nginx.ask("/healthz", X_Forwarded_For="192.0.2.1")[0] == 200
    service.stop()
    assert "192.0.2.1" not in service.said(), "what a client says of itself counts for nothing"
    assert "127.0.0.1: GET /healthz 200" in service.said()


def test_event_goes_through_to_who_follows_when_it_comes(nginx: Nginx, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(
        f"https://127.0.0.1:{nginx.port}/events/stream", headers={"Host": NAME, **bearer}
    )
    with urllib.request.urlopen(request, timeout=20, context=nginx.trusted) as stream:
        assert stream.readline().startswith(b"retry:")
        assert nginx.ask("/publish", json.dumps(event("now")).encode(), **bearer)[0] == 200
        line = b""
        while b"data:" not in line:
            line = stream.readline()
        assert b'"event_id":"now"' in line


def test_stopped_service_is_told_apart_from_its_answers(service: Service, nginx: Nginx) -> None:
    service.stop()
    with pytest.raises(ValueError):  # noqa: PT011, nginx answers in HTML
        nginx.ask("/healthz")
