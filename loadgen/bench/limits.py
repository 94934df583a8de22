"""What cannot be beaten without doing less: the database alone, and the HTTP server alone."""

import json
import subprocess
import sys

from loadgen.bench.body import Shape, one
from loadgen.bench.contestant import Contestant, Place
from loadgen.bench.errors import RoundError
from loadgen.bench.process import Process
from loadgen.bench.results import Effort, Round
from loadgen.bench.served import Served, ask, program


class BareSqlite(Contestant):
    name = "sqlite"
    group = "limits"
    title = "bare SQLite in a loop"
    size = 1000
    promise = "durable at each commit; nobody is answered"
    note = "one table, UNIQUE(topic, event_id), INSERT OR IGNORE, executemany, WAL, FULL"
    is_ordered = False

    def turn(self, place: Place, effort: Effort) -> Round:
        return self.insert(place, effort.events, effort.seconds, 0)

    def insert(
        self, place: Place, events: int, seconds: float, start: int, *, again: bool = False
    ) -> Round:
        """The events from a number on, perhaps with duplicates, into the file of the place."""
        plan = {
            "path": str(place.data / "bare.db"),
            "start": start,
            "events": events,
            "seconds": seconds,
            "ordered": self.is_ordered,
            "again": again,
        }
        command = [sys.executable, "-m", "loadgen.bench.programs.bare_sqlite", json.dumps(plan)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RoundError(ended.stderr.strip()[-300:])
        found = json.loads(ended.stdout)
        if found["stored"] != found["new"]:
            raise RoundError(f"{found['new']:,} are new, and {found['stored']:,} were stored")
        requests = found["events"] // self.size
        return Round(found["events"], found["seconds"], requests, found["processor"])


class BareSqliteOrdered(BareSqlite):
    name = "sqlite-ordered"
    title = "bare SQLite in a loop, ids in order of time"
    is_ordered = True


class BareAiohttp(Served):
    name = "aiohttp"
    group = "limits"
    title = "bare aiohttp, one event a request"
    connections = 64
    promise = "nothing: it stores nothing"
    note = "parses the body with json.loads and answers {}"
    shape = Shape(1, one)

    def start(self, place: Place, port: int) -> Process:
        process = Process([sys.executable, str(program("bare_aiohttp")), str(port)], place.data)
        process.wait_until(lambda: ask(port, "/stats"))
        return process

    def stored(self, place: Place, port: int) -> int:  # noqa: ARG002
        parsed: int = ask(port, "/stats")["parsed"]
        return parsed
