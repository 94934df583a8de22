"""Benthos: events in over HTTP, through its deduplication, out into SQLite."""

import subprocess
import sys
from pathlib import Path

from loadgen.bench.body import Shape
from loadgen.bench.contestant import Place
from loadgen.bench.process import Process, free_port
from loadgen.bench.served import Served, ask, program
from loadgen.bench.workshop import go_program

SOURCE = Path(__file__).parent / "source" / "benthos.go"
MODULES = (
    "github.com/redpanda-data/benthos/v4/public/service@v4.60.0",
    "github.com/redpanda-data/benthos/v4/public/components/io@v4.60.0",
    "github.com/redpanda-data/benthos/v4/public/components/pure@v4.60.0",
    "modernc.org/sqlite@v1.40.0",
)
CONFIG = """
http: {{address: "127.0.0.1:{monitor}"}}
logger: {{level: WARN}}
input:
  http_server: {{address: "127.0.0.1:{port}", path: /publish, timeout: 30s}}
pipeline:
  processors:
    - unarchive: {{format: json_array}}
    - dedupe: {{cache: seen, key: '${{! json("topic") }}/${{! json("event_id") }}'}}
output: {{sqlite: {{path: "{path}"}}}}
cache_resources:
  - {{label: seen, memory: {{default_ttl: 10m}}}}
"""


class Benthos(Served):
    name = "benthos"
    group = "peers"
    title = "Benthos 4.60 into SQLite, 100 events a request"
    size = 100
    connections = 16
    promise = (
        "durable; one answer for all, none for each; remembered for good; an event whose write "
        "failed is taken for a copy when it comes again (its documentation warns of that)"
    )
    note = (
        "dedupe in memory for 10 minutes; the SQLite output is ours (modernc, WAL, FULL, INSERT OR "
        "IGNORE, a transaction a request), for that of Redpanda Connect is not open source"
    )
    shape = Shape(100)

    def prepare(self, place: Place) -> None:
        self._program = go_program(place.cache, self.name, SOURCE, MODULES)

    def start(self, place: Place, port: int) -> Process:
        monitor = free_port()
        config = place.data / "benthos.yaml"
        config.write_text(CONFIG.format(port=port, monitor=monitor, path=database(place)))
        process = Process([str(self._program), "run", str(config)], place.data)
        process.wait_until(lambda: ask(monitor, "/ready", is_json=False))
        return process

    def stored(self, place: Place, port: int) -> int:  # noqa: ARG002
        command = [sys.executable, str(program("count")), str(database(place))]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)


def database(place: Place) -> Path:
    return place.data / "benthos.db"
