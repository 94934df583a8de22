"""strace, which looks on at what the service does, or makes its system calls slow or failing."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from running import LIMIT, Service, until

SYNCS = "fsync,fdatasync"


def syncs(service: Service, conduct: str) -> AbstractContextManager[Path]:
    """The syncs of the running service behave so; gives what `conducting` does."""
    return conducting(service, SYNCS, conduct)


@contextmanager
def conducting(service: Service, calls: str, conduct: str) -> Iterator[Path]:
    """These calls of the running service behave so, in strace's words.

    Gives the trace of them, of syncs, and of what is sent.
    """
    trace = service.folder / "trace"
    said = service.folder / "strace.log"
    with said.open("w") as errors:
        strace = subprocess.Popen(
            [
                *("strace", "-f", "-y", "-s", "12", "-o", str(trace)),
                *("-p", str(service.process.pid)),
                *("-e", f"trace={calls},{SYNCS},sendto,sendmsg"),
                *("-e", f"inject={calls}:{conduct}"),
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
