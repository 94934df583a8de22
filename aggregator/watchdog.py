"""Ends a process that can do nothing any more, and says whose fault it is."""

import asyncio
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType

from aggregator.pipeline.runner import NamedStage
from aggregator.transaction import Effect

log = logging.getLogger(__name__)

EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h
_TICK = 0.5  # seconds


def end_stuck(stage: str) -> None:
    """End the process: the stage neither answers nor lets itself be cancelled."""
    log.critical("the stage %s hangs and cannot be cancelled; ending the process", stage)
    os._exit(EXIT_STUCK)


def end_blocked(stage: str, frame: FrameType | None) -> None:
    """End the process: nothing else can run while the event loop is there."""
    stack = "".join(traceback.format_stack(frame))
    log.critical("the event loop is blocked by %s; ending the process\n%s", stage, stack)
    os._exit(EXIT_STUCK)


class Watchdog:
    """Calls `end` when the event loop has not turned for `patience` seconds, from its own thread.

    It is told what blocks it, and where that is.

    Counted in ticks of a thread of its own: when the whole process is stopped and goes on later,
    the thread was stopped as well and accuses nobody.
    """

    def __init__(
        self, patience: float, end: Callable[[str, FrameType | None], None] = end_blocked
    ) -> None:
        self._most_ticks = max(2, int(patience / _TICK))
        self._end = end
        self._ticks = 0
        self._over = threading.Event()
        self._watched = threading.main_thread().ident

    def start(self) -> None:
        """Watch the running event loop, from a thread."""
        self._watched = threading.get_ident()
        self._beat(asyncio.get_running_loop())
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticks = 0
        if not self._over.is_set():
            loop.call_later(_TICK, self._beat, loop)

    def _watch(self) -> None:
        while not self._over.wait(_TICK):
            self._ticks += 1
            if self._ticks > self._most_ticks:
                frame = sys._current_frames().get(self._watched or 0)
                self._end(_who(frame), frame)


def _who(frame: object) -> str:
    """The stage that the pipeline is running, or its effect, by the frames that wait for it."""
    while frame is not None:
        held = getattr(frame, "f_locals", {})
        if isinstance(held.get("effect"), Effect):
            return f"an effect of the stage {held['effect'].stage}"
        if isinstance(held.get("named"), NamedStage):
            return f"the stage {held['named'].name}"
        frame = getattr(frame, "f_back", None)
    return "something that is no stage"
