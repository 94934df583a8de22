"""A contestant that is published to over HTTP."""

import json
import signal
import urllib.request
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadgen.bench.body import Shape
from loadgen.bench.contestant import Contestant, Place
from loadgen.bench.errors import RoundError
from loadgen.bench.load import Sent, Target, publish, publish_at
from loadgen.bench.process import Process, between, free_port
from loadgen.bench.results import Effort, Paced, Round


class Served(Contestant):
    """Whoever says how it is started, and what it has stored."""

    shape: Shape
    path = "/publish"
    headers: tuple[str, ...] = ()
    is_paced = False
    stop_with = signal.SIGTERM

    @abstractmethod
    def start(self, place: Place, port: int) -> Process:
        """Started on an empty folder, and ready."""

    @abstractmethod
    def stored(self, place: Place, port: int) -> int:
        """How many events are stored, by its own word while it runs."""

    def turn(self, place: Place, effort: Effort) -> Round:
        bodies = place.bodies_of(self.shape, effort.of(self.size))
        with self.running(place) as (process, port):
            before = process.use()
            sent = publish(self.target(port), bodies, self.connections, effort.seconds)
            after = process.use()
            self.check(sent, self.stored(place, port))
        events = sent.requests * self.size
        used = between(before, after)
        return Round(
            events, sent.seconds, sent.requests, used, after.memory, publisher=sent.processor
        )

    def paced(self, place: Place, effort: Effort, rate: float) -> Paced | None:
        if not self.is_paced:
            return None
        requests = rate / self.size
        needed = int(requests * effort.seconds + 1) * self.size
        bodies = place.bodies_of(self.shape, needed)
        with self.running(place) as (_, port):
            sent = publish_at(requests, self.target(port), bodies, self.connections, effort.seconds)
            self.check(sent, self.stored(place, port))
        return Paced(requests, sent.requests, sent.latency, sent.late)

    @contextmanager
    def running(self, place: Place) -> Iterator[tuple[Process, int]]:
        port = free_port()
        process = self.start(place, port)
        try:
            yield process, port
        finally:
            process.stop(self.stop_with)

    def target(self, port: int) -> Target:
        return Target(port, self.path, self.shape.content_type, self.headers)

    def check(self, sent: Sent, stored: int) -> None:
        expected = self.shape.unique(sent.requests * self.size)
        if stored != expected:
            raise RoundError(f"{expected:,} events should be stored, and {stored:,} are")


def ask(port: int, path: str, *, is_json: bool = True) -> Any:
    """The JSON of a GET, or its text."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
        return json.load(response) if is_json else response.read()


def program(name: str) -> Path:
    """A script of ours that runs as a process of its own, perhaps with a Python of its own."""
    return Path(__file__).parent / "programs" / f"{name}.py"
