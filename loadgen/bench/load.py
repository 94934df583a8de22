"""Sends a file of bodies to a server: as fast as it answers, or on a schedule."""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadgen.bench.errors import RoundError

FEED = Path(__file__).with_name("feed.lua")
REPORT = "\nBENCH "
PATIENCE = 120.0
"""Seconds more than were asked for, after which a publisher is given up."""


class Sent(msgspec.Struct):
    """What a publisher says at its end; times in seconds, latencies in milliseconds."""

    requests: int
    seconds: float
    refused: int
    lost: int
    latency: dict[str, float] = {}
    """Of each answer, from the moment when the request was due; none when there was no schedule."""
    processor: float = 0.0
    """Seconds of processor time that the publisher used."""
    late: dict[str, float] = {}
    """How long after that moment the publisher itself got to it."""


@dataclass(frozen=True)
class Target:
    """Where to, and what stands before each body."""

    port: int
    path: str
    content_type: str
    headers: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """All lines but the length's."""
        lines = (
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Content-Type: {self.content_type}",
            *self.headers,
        )
        return "".join(f"{line}\r\n" for line in lines)


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def publish(target: Target, bodies: Path, connections: int, seconds: float) -> Sent:
    """As fast as the answers come, until bodies or time are used up; every request is answered."""
    if not has_wrk():
        return publish_at(0, target, bodies, connections, seconds)
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{int(seconds + PATIENCE)}"]
    command += ["--timeout", f"{int(PATIENCE)}", "-s", str(FEED), f"http://127.0.0.1:{target.port}"]
    environ = {
        "BENCH_CONNECTIONS": str(connections),
        "BENCH_SECONDS": str(seconds),
        "BENCH_HEAD": target.head.replace("\r\n", r"\r\n"),
        "BENCH_BODIES": str(bodies),
    }
    return _publish(command, seconds, environ)


def publish_at(rate: float, target: Target, bodies: Path, connections: int, seconds: float) -> Sent:
    """So many requests a second, each on its moment whatever became of the earlier ones."""
    plan = {
        "rate": rate,
        "port": target.port,
        "head": target.head,
        "bodies": str(bodies),
        "connections": connections,
        "seconds": seconds,
    }
    return _publish(
        [sys.executable, "-m", "loadgen.bench.publisher", json.dumps(plan)], seconds, {}
    )


def _publish(command: list[str], seconds: float, environ: dict[str, str]) -> Sent:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = _run(command, seconds, environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    sent = _checked(json.loads(said.partition(REPORT)[2] or "null"), said)
    sent.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return sent


def _run(command: list[str], seconds: float, environ: dict[str, str]) -> str:
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=seconds + 2 * PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RoundError("the publisher did not come to its end") from error
    if ended.returncode:
        raise RoundError(f"the publisher failed: {(ended.stderr or ended.stdout).strip()[-300:]}")
    return ended.stdout


def _checked(report: Any, said: str) -> Sent:
    if report is None:
        raise RoundError(f"the publisher gave no report: {said.strip()[-300:]}")
    sent = msgspec.convert(report, Sent)
    if sent.refused or sent.lost or not sent.requests or not sent.seconds:
        raise RoundError(
            f"of {sent.requests:,} requests {sent.refused:,} were refused and {sent.lost:,} lost"
        )
    return sent
