"""The service as a real process, which tests start, kill and start again."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 20.0
_PATHS = (str(Path(__file__).parent / "mutants"), os.environ.get("PYTHONPATH", ""))
MUTANTS = {"PYTHONPATH": os.pathsep.join(filter(None, _PATHS))}
"""The environment in which what is broken on purpose is installed."""

_HANDED_OVER = """
import fcntl, os, sys
command, numbers = sys.argv[3:], [int(number) for number in sys.argv[1].split(",")]
kept = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in numbers]
for number, copy in enumerate(kept, 3):
    os.dup2(copy, number)
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])
os.execv(command[0], command)
"""


class Answer(NamedTuple):
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    content: Any


def aggregator(
    folder: Path,
    *arguments: str,
    environ: dict[str, str] | None = None,
    seconds: float = LIMIT,
) -> "subprocess.CompletedProcess[str]":
    """Run the command in the folder, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "aggregator", *arguments],
        cwd=folder,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def until(is_so: Callable[[], object], what: str, seconds: float = LIMIT) -> None:
    """Look until it is so; fail after the time."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


class Service:
    """`aggregator serve` on a free port, in a folder of its own."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        self.under: list[str] = []
        """A command that runs the service and looks on, as strace does."""
        self.pass_fds: tuple[int, ...] = ()
        """File descriptors that it is given."""
        self.url = ""
        self.errors = folder / "stderr.log"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.kill()

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The process started last."""
        assert self._process
        return self._process

    def hand_over(self, *listening: socket.socket, count: str = "") -> None:
        """Have it started from now on as a socket unit does: those have the numbers from 3 on."""
        self.pass_fds = tuple(one.fileno() for one in listening)
        numbers = ",".join(map(str, self.pass_fds))
        self.under = [sys.executable, "-c", _HANDED_OVER, numbers, count or str(len(listening))]
        if listening[0].family == socket.AF_INET:
            self.url = f"http://127.0.0.1:{listening[0].getsockname()[1]}"

    def start(self, *flags: str, environ: dict[str, str] | None = None) -> str:
        """Start it and wait until it is ready; return its URL."""
        self.launch(*flags, environ=environ)
        return self.wait_ready()

    def launch(self, *flags: str, environ: dict[str, str] | None = None) -> None:
        """Start it, and do not wait."""
        with self.errors.open("a") as errors:
            self._process = subprocess.Popen(
                [*self.under, self.python, "-m", "aggregator", "serve", "--port", "0", *flags],
                cwd=self.folder,
                env={**os.environ, **(environ or {})},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                pass_fds=self.pass_fds,
            )

    def wait_ready(self) -> str:
        """Wait until it says that it is ready; return its URL."""
        assert self.process.stdout
        first = self.process.stdout.readline()
        assert " listens on " in first, f"it did not start: {self.said()}"
        self.url = first.split()[-1]
        return self.url

    def kill(self) -> None:
        """As a power cut does: no chance to do anything."""
        self.process.kill()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; return its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, seconds: float = LIMIT) -> int:
        """Its exit status, once it has ended."""
        status = self.process.wait(seconds)
        assert self.process.stdout
        self.process.stdout.close()
        return status

    def said(self) -> str:
        """What it wrote on standard error, over all its starts."""
        return self.errors.read_text()

    def publish(self, events: Any) -> tuple[int, Any]:
        """Status and answer."""
        return self.call("/publish", json.dumps(events).encode())

    def call(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and JSON of a GET, or of a POST if there is a body."""
        answer = self.ask(path, body)
        return answer.status, answer.content

    def ask(self, path: str, body: bytes | None = None) -> Answer:
        """The whole answer to a GET, or to a POST if there is a body."""
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": "application/json"}
        )
        try:
            # Python may keep the first context that it makes, and what that trusts.
            context = ssl.create_default_context() if request.type == "https" else None
            with urllib.request.urlopen(request, timeout=LIMIT, context=context) as response:
                return Answer(response.status, dict(response.headers), json.load(response))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), json.load(error))

    def stored(self) -> list[dict[str, Any]]:
        """Every stored event, in order."""
        events: list[dict[str, Any]] = []
        after = "0"
        while after is not None:
            _, page = self.call(f"/events?limit=1000&after={after}")
            events += page["events"]
            after = page["next"]
        return events

    def until_ready(self) -> None:
        """Wait until it can store again."""
        until(lambda: self.call("/readyz")[0] == 200, "it is ready")
