"""The service as it is installed, with its default settings, on an empty store."""

import sys
from functools import partial

from loadgen.bench.body import Shape, fifth_again, lines, one
from loadgen.bench.contestant import Place
from loadgen.bench.errors import RoundError
from loadgen.bench.process import Process
from loadgen.bench.served import Served, ask

PROMISE = "durable; every event answered: stored, duplicate or conflict; remembered for good"


class Ours(Served):
    group = "ours"
    promise = PROMISE
    is_paced = True

    def __init__(
        self, name: str, title: str, shape: Shape, connections: int, python: str = sys.executable
    ) -> None:
        self.name = name
        self.title = title
        self.shape = shape
        self.size = shape.size
        self.connections = connections
        self.python = python
        """Whose `aggregator` is measured."""

    def start(self, place: Place, port: int) -> Process:
        command = [self.python, "-m", "aggregator", "serve", "--port", str(port)]
        process = Process(command, place.data)
        process.wait_until(lambda: ask(port, "/readyz"))
        return process

    def stored(self, place: Place, port: int) -> int:  # noqa: ARG002
        stats = ask(port, "/stats")
        received, unique = stats["received_total"], stats["unique_processed"]
        if received - unique != stats["duplicate_dropped"]:
            raise RoundError(f"the numbers do not add up: {stats}")
        stored: int = unique
        return stored


BEFORE = "-before"


def ours(python: str, before: str | None = None) -> list[Ours]:
    """Each way to publish, perhaps to another checkout's service too."""
    found = ways(python)
    if before:
        for one in ways(before):
            one.name += BEFORE
            one.title += ", before"
            found.append(one)
    return found


def ways(python: str) -> list[Ours]:
    ordered = partial(Shape, is_ordered=True)
    again = Shape(100, choice=fifth_again)
    ndjson = Shape(100, lines, "application/x-ndjson")
    each = (
        ("ours-1", "one event a request", Shape(1, one), 64),
        ("ours-100", "100 events a request", Shape(100), 16),
        ("ours-1-512", "one event a request, 512 connections", Shape(1, one), 512),
        ("ours-1000", "1,000 events a request", Shape(1000), 16),
        ("ours-ndjson", "100 events a request, NDJSON", ndjson, 16),
        ("ours-1-ordered", "one event a request, ids in order of time", ordered(1, one), 64),
        ("ours-100-ordered", "100 events a request, ids in order of time", ordered(100), 16),
        ("ours-100-again", "100 events a request, 20 % of them sent just before", again, 16),
    )
    return [Ours(*way, python) for way in each]
