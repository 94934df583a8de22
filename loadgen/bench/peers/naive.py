"""The design that everybody sketches first."""

import sys

from loadgen.bench.body import Shape, one
from loadgen.bench.contestant import Place
from loadgen.bench.process import Process
from loadgen.bench.served import Served, ask, program


class Naive(Served):
    name = "naive"
    group = "peers"
    title = "the naive design, one event a request"
    connections = 64
    promise = "durable; every event answered; remembered for good"
    note = (
        "aiohttp, a queue, one consumer with aiosqlite, a commit an event, WAL, FULL; it answers "
        "after the commit, where the usual sketch answers before it and promises nothing"
    )
    shape = Shape(1, one)
    is_paced = True
    is_same = True

    def start(self, place: Place, port: int) -> Process:
        path = str(place.data / "naive.db")
        process = Process([sys.executable, str(program("naive")), str(port), path], place.data)
        process.wait_until(lambda: ask(port, "/stats"))
        return process

    def stored(self, place: Place, port: int) -> int:  # noqa: ARG002
        stored: int = ask(port, "/stats")["stored"]
        return stored
