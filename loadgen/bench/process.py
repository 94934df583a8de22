"""A server as a process of its own: started, looked at from outside, and stopped."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from loadgen.bench.errors import RoundError

PATIENCE = 30.0  # seconds
IDLE = 0.25
"""Seconds of which less than a tenth is worked."""
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What a process and its children have used; None where there is no /proc."""

    processor: float | None
    """Seconds."""
    memory: int | None
    """Bytes resident now."""


class Member(NamedTuple):
    """One of the processes that a server is made of."""

    id: int
    parent: int
    ticks: int
    pages: int


def between(before: Use, after: Use) -> float | None:
    """Seconds of processor time."""
    if before.processor is None or after.processor is None:
        return None
    return after.processor - before.processor


class Process:
    def __init__(
        self,
        command: list[str],
        folder: Path,
    ) -> None:
        self._log = folder / "server.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={name: word for name, word in os.environ.items() if not is_ours(name)},
                stdout=log,
                stderr=log,
            )

    def wait_until(self, is_ready: Callable[[], object]) -> None:
        """RoundError where it is not ready in time: then it is stopped, or has ended by itself."""
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._process.poll() is not None:
                raise RoundError(f"it ended with {self._process.returncode}: {self.said()}")
            try:
                if is_ready():
                    return
            except (OSError, ValueError):
                pass
            if time.monotonic() > deadline:
                self.stop()
                raise RoundError(f"it was not ready within {PATIENCE:g} s: {self.said()}")
            time.sleep(0.05)

    def use(self) -> Use:
        if not Path("/proc/self/stat").exists():
            return Use(None, None)
        root, *started = family(self._process.pid)
        memory = root.pages * PAGE + sum(map(own_memory, started))
        return Use(sum(member.ticks for member in (root, *started)) / TICK, memory)

    def written(self) -> int | None:
        """Bytes that it has sent to the disk so far; None where that is not told."""
        try:
            lines = Path(f"/proc/{self._process.pid}/io").read_text().splitlines()
        except OSError:
            return None
        return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))

    def wait_until_idle(self) -> None:
        """Until it has done what it does after its answers, or a while has passed."""
        deadline = time.monotonic() + PATIENCE
        used = self.use().processor
        while used is not None and time.monotonic() < deadline:
            time.sleep(IDLE)
            before, used = used, self.use().processor
            if used is not None and used - before < IDLE / 10:
                return

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to end; after a while it is killed."""
        self._process.send_signal(number)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        return self._log.read_text(errors="replace").strip()[-400:]


def is_ours(name: str) -> bool:
    """Whether a variable is a setting of the service, which is measured with none."""
    return name.startswith("AGGREGATOR_")


def family(root: int) -> list[Member]:
    """A process and all that it started, and what they started."""
    found = {member.id: member for member in running()}
    members = [found[root]]
    for member in members:
        members += [one for one in found.values() if one.parent == member.id]
    return members


def running() -> Iterator[Member]:
    """Every process there is."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        ticks = int(fields[11]) + int(fields[12])
        yield Member(int(path.parent.name), int(fields[1]), ticks, int(fields[21]))


def own_memory(member: Member) -> int:
    """Bytes, where what several share is counted once; PostgreSQL's processes share most."""
    try:
        lines = Path(f"/proc/{member.id}/smaps_rollup").read_text().splitlines()
    except OSError:
        return member.pages * PAGE
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
