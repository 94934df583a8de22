"""The prover learns how the service has ended, whoever sends it a signal at that moment."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from aggregator.prove.process import Process


@pytest.mark.skipif(
    sys.platform != "linux", reason="waits for a child as Python 3.12 does on Linux"
)
async def test_signal_to_what_has_just_ended_does_not_take_its_exit_status(tmp_path: Path) -> None:
    if sys.version_info < (3, 12):  # there it would be waited for in a thread
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)
    pipe = asyncio.subprocess.PIPE
    read, write = os.pipe()
    child = await asyncio.create_subprocess_exec("cat", stdin=read, stdout=pipe, stderr=pipe)
    process = Process(child, time.monotonic(), tmp_path / "log")
    os.close(read)
    os.close(write)  # now it ends, and not before the loop was asked to wait for it
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked
    process.signal(signal.SIGKILL)
    assert await child.wait() == 0
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(None)
