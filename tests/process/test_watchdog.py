"""The watchdog ends a process whose event loop is blocked, and no other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from running import LIMIT, until

PATIENCE = 1.0
CHILD = f"""
import asyncio, sys, time
from aggregator.pipeline.effects import EffectRunner
from aggregator.transaction import Effect
from aggregator.watchdog import Watchdog

async def main():
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: print(sys.stdin.readline(), end="", flush=True))
    watchdog = Watchdog({PATIENCE})
    watchdog.start()
    print("watching", flush=True)
    if sys.argv[1] == "block":
        time.sleep(3600)
    if sys.argv[1] == "effect":
        EffectRunner().run([Effect("slow", lambda: time.sleep(3600))])
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
def child() -> Iterator["subprocess.Popen[str]"]:
    with watched("turn") as process:
        yield process


@contextmanager
def watched(conduct: str) -> Iterator["subprocess.Popen[str]"]:
    """A process with a watchdog of little patience, and a loop that echoes its standard input."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, conduct],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def echoes(process: "subprocess.Popen[str]", word: str) -> bool:
    """Whether the process still turns its loop."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return process.stdout.readline() == f"{word}\n"


def test_process_that_was_stopped_and_goes_on_does_not_end_itself(
    child: "subprocess.Popen[str]",
) -> None:
    assert child.stdout
    assert child.stdout.readline() == "watching\n"
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    over = time.monotonic() + 2 * PATIENCE
    until(lambda: time.monotonic() > over, "the patience is over twice")
    child.send_signal(signal.SIGCONT)
    woken = time.monotonic() + PATIENCE
    until(lambda: time.monotonic() > woken, "a tick of the watchdog has passed")
    assert echoes(child, "well?"), child.communicate()
    assert child.poll() is None


def test_process_whose_loop_is_blocked_is_ended_with_its_stack_in_the_log() -> None:
    with watched("block") as process:
        assert process.wait(LIMIT) == 70
        assert process.stderr
        said = process.stderr.read()
    assert "the event loop is blocked by something that is no stage" in said
    assert ", in main\n" in said


def test_effect_that_blocks_the_loop_is_told_with_its_stage() -> None:
    with watched("effect") as process:
        assert process.wait(LIMIT) == 70
        assert process.stderr
        assert "blocked by an effect of the stage slow" in process.stderr.read()
