"""Datasette, whose JSON API inserts rows and can ignore those that are there."""

import json
import subprocess
from pathlib import Path

from loadgen.bench.body import Shape, array
from loadgen.bench.contestant import Place
from loadgen.bench.event import Row
from loadgen.bench.process import Process
from loadgen.bench.served import Served, ask
from loadgen.bench.workshop import python_with

TABLE = """
import sqlite3
db = sqlite3.connect("events.db")
db.execute("PRAGMA journal_mode=WAL")
db.execute(
    "CREATE TABLE events (topic TEXT, event_id TEXT, timestamp TEXT, source TEXT, payload TEXT,"
    " PRIMARY KEY (topic, event_id))"
)
"""


def insert(events: list[Row]) -> str:
    return f'{{"ignore":true,"rows":{array(events)}}}'


class Datasette(Served):
    name = "datasette"
    group = "peers"
    title = "Datasette 1.0a41, 100 rows a request"
    size = 100
    connections = 16
    promise = "durable; one answer for all, none for each; remembered for good"
    note = "insert API with ignore, WAL; takes at most 100 rows a request by default"
    shape = Shape(100, insert)
    path = "/events/events/-/insert"
    requirements = ("datasette==1.0a41",)

    def prepare(self, place: Place) -> None:
        self._python = python_with(place.cache, self.name, self.requirements)

    def start(self, place: Place, port: int) -> Process:
        subprocess.run([self._python, "-c", TABLE], cwd=place.data, check=True)
        allowed = Path(place.data, "datasette.json")
        allowed.write_text(json.dumps({"permissions": {"insert-row": True}}))
        command = [str(self._python), "-m", "datasette", "serve", "events.db", "-p", str(port)]
        process = Process([*command, "-c", allowed.name], place.data)
        process.wait_until(lambda: ask(port, "/-/versions.json"))
        return process

    def stored(self, place: Place, port: int) -> int:  # noqa: ARG002
        query = "/events/-/query.json?sql=select+count(*)+as+stored+from+events&_shape=array"
        (row,) = ask(port, query)
        stored: int = row["stored"]
        return stored
