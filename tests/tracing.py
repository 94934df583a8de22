"""strace on the running service: its fsyncs slow or failing, and what it then answers."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from running import LIMIT, Service, until


def need_strace() -> None:
    """Skip the test where strace cannot be used, and say why."""
    if reason := _why_not():
        pytest.skip(reason)


@cache
def _why_not() -> str:
    if not shutil.which("strace"):
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "this machine lets nobody trace a process" if tried.returncode else ""


@contextmanager
def syncs(service: Service, conduct: str) -> Iterator[Path]:
    """The service's fsyncs behave so, in strace's words; gives the trace of them and of answers."""
    trace = service.folder / "trace"
    said = service.folder / "strace.log"
    with said.open("w") as errors:
        strace = subprocess.Popen(
            [
                *("strace", "-f", "-y", "-s", "12", "-o", str(trace)),
                *("-p", str(service.process.pid)),
                *("-e", "trace=fsync,fdatasync,sendto,sendmsg"),
                *("-e", f"inject=fsync,fdatasync:{conduct}"),
            ],
            stderr=errors,
        )
    try:
        until(lambda: "attached" in said.read_text() or strace.poll(), "strace is attached")
        if strace.returncode:
            pytest.skip(f"no process can be traced here: {said.read_text()}")
        yield trace
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(LIMIT)
