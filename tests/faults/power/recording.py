"""The service under strace: killed, stopped and started again, with every step it takes kept."""

import os
import re
import shutil
import signal
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest

from power.disk import Disk
from power.steps import HTTP, IGNORED, TRACED, Step, steps
from power.syscalls import FLAGS, Call, calls
from running import LIMIT, Service, until


class Recording:
    """What one process after another did to the files of one folder, from an empty one on."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.steps: list[Step] = []
        self._disk = Disk()
        self._traces: list[Path] = []
        self._attached: list[subprocess.Popen[bytes]] = []
        self._lines = 0

    def copy_to(self, service: Service) -> "Recording":
        """The same files and steps, to go on from in another folder. Nothing may run here."""
        shutil.copytree(self.service.folder / "data", service.folder / "data")
        copied = Recording(service)
        copied.steps, copied._lines = list(self.steps), self._lines
        copied._disk = deepcopy(self._disk)
        return copied

    def start(self, *flags: str, fault: str = "", environ: dict[str, str] | None = None) -> None:
        """Start the service under strace, with a fault injected as strace describes it."""
        # -D: strace is the child, so that who is killed is the service itself.
        self.service.under = [*self._strace(fault), "-D"]
        self.service.start(*flags, environ=environ)

    def disturb(self, fault: str) -> None:
        """From now on the running service suffers this fault."""
        pid = self.service.process.pid
        os.kill(_tracer(pid), signal.SIGTERM)
        until(lambda: not _tracer(pid), "strace has let go")
        command = [*self._strace(fault), "-p", str(pid)]
        attached = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._attached.append(attached)
        until(lambda: _tracer(pid) or attached.poll(), "strace is attached")
        if attached.poll():
            pytest.skip("a process that runs already cannot be traced here")

    def kill(self, *, sync_failed: bool = False) -> None:
        """End it as `kill -9` does, if it has not ended yet.

        A sync in which it dies may have failed before; otherwise it just was not made.
        """
        self.service.kill()
        self._keep(sync_failed)

    def stop(self) -> None:
        """End it in good order."""
        assert self.service.stop() == 0
        self._keep(False)

    def _strace(self, fault: str) -> list[str]:
        self._traces.append(self.service.folder / f"trace-{len(self._traces)}")
        return [
            *("strace", "-I", "waiting", *FLAGS, "-o", str(self._traces[-1])),
            *("-e", f"trace={','.join(TRACED)}"),
            *([f"--inject={fault}"] if fault else []),
        ]

    def _keep(self, sync_failed: bool) -> None:
        """Add the steps of the process that has ended."""
        folder = self.service.folder.resolve()
        self._until_traced()
        while self._attached:
            self._attached.pop().wait(LIMIT)
        lines = [line for trace in self._traces for line in trace.read_text().splitlines()]
        self._traces.clear()
        end = self._lines + len(lines)
        made = calls(lines, self._lines, str(folder), HTTP)
        for call in made:
            if call.ended is None and call.path and (sync_failed or "sync" not in call.name):
                _settle(call, end)
        self._lines = end + 1
        self._add(steps(made, str(folder)))

    def _add(self, added: list[Step]) -> None:
        """Keep them, once it is sure that the simulator knows what is in the files."""
        for step in added:
            self._disk.apply(step)
        self.steps += added
        assert self._disk.read() == self._found(), "the simulator has missed something"

    def _found(self) -> dict[str, bytes]:
        home = self.service.folder
        found = (path for path in home.glob("*/*") if not path.name.endswith(IGNORED))
        return {str(path.relative_to(home)): path.read_bytes() for path in found}

    def _until_traced(self) -> None:
        last = re.compile(rf"^{self.service.process.pid} +\+\+\+ ", re.MULTILINE)
        until(lambda: last.search(_tail(self._traces[-1])), "strace has written all")


def _tracer(pid: int) -> int:
    """Who traces the process; 0 if nobody does."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^TracerPid:\s+(\d+)$", status, re.MULTILINE)
    assert found
    return int(found[1])


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 5000))
        return file.read().decode()


def _settle(call: Call, end: int) -> None:
    """The process was killed in this call: see by the files whether it was made."""
    path = Path(call.path)
    match call.name:
        case "fsync" | "fdatasync":
            call.end(end, "-1")
        case "pwrite64":
            offset, content = call.numbers[-1], call.strings[0]
            if path.read_bytes()[offset:].startswith(content):
                call.end(end, str(len(content)))
        case "ftruncate" if path.stat().st_size == call.numbers[-1]:
            call.end(end, "0")
        case "openat" | "mkdir" if path.exists():
            call.end(end, "0")
        case "unlink" if not path.exists():
            call.end(end, "0")
