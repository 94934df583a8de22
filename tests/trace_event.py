"""Shows which files one event passes, from the bytes of its request to the answer.

Real calls are traced: the app is served in this process, from a new SQLite store. `make trace`
shows how many files each kind of event passes, and then the way of a new one;
`make trace EVENT=conflict` that of a conflict. To compare with another checkout, run this file with
the Python of its virtual environment.
"""

import asyncio
import json
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

from aiohttp import web

import aggregator
from aggregator.app import create_app
from aggregator.config import load
from aggregator.plugins import Plugins

ROOT = Path(aggregator.__file__).parents[1]
FOLDERS = ("aggregator", "plugins")
STATUSES = {
    "new": "stored",
    "duplicate": "duplicate",
    "conflict": "conflict",
    "invalid": "invalid",
}


class Call(NamedTuple):
    """A function that begins, or a coroutine that goes on."""

    code: CodeType
    is_beginning: bool


class Recorder:
    """Records the calls of our functions, in every thread, while it is told to."""

    def __init__(self) -> None:
        self.is_recording = False
        self._calls: list[Call] = []

    def __enter__(self) -> "Recorder":
        """See calls in this thread, and in those that are started meanwhile."""
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def taken(self) -> "Way":
        """What was recorded since the last time."""
        calls, self._calls = self._calls, []
        return Way(calls)

    def _look(self, frame: FrameType, event: str, _: object) -> None:
        if self.is_recording and event == "call":
            # Both are calls to a profiler. The RESUME that is run first is that of a beginning if
            # the low bits of its argument are 0.
            is_beginning = frame.f_code.co_code[frame.f_lasti + 1] & 3 == 0
            self._calls.append(Call(frame.f_code, is_beginning))


class Way:
    """The files that an event has passed, with the functions that were called in each."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self.functions: dict[Path, list[str]] = {}
        """By file, in the order of the first visit."""
        self.steps: list[tuple[Path, str]] = []
        """The same functions one after the other, whatever file they are in."""
        begun: list[Path] = []
        for code, is_beginning in calls:
            if path := _ours(code):
                names = self.functions.setdefault(path, [])
                name = code.co_qualname.replace(".<locals>", "")
                if "<" not in name and name not in names:
                    names.append(name)
                    self.steps.append((path, name))
                if is_beginning:
                    begun.append(path)
        self.moves = sum(one != two for one, two in pairwise(begun))
        """How often a function begins in another file than the one that began before it."""
        self.lines = {path: _lines(path) for path in self.functions}


def _ours(code: CodeType) -> Path | None:
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    path = path.relative_to(ROOT)
    return path if path.parts[0] in FOLDERS else None


def _lines(path: Path) -> int:
    return len((ROOT / path).read_text().splitlines())


def body(kind: str, event_id: str) -> bytes:
    """An event that becomes one of that kind; what is not new needs a new one before it."""
    event = {
        "topic": "logins",
        "event_id": event_id,
        "timestamp": "2026-01-31T12:00:00Z",
        "source": "" if kind == "invalid" else "tests",
        "payload": {"user": "bob" if kind == "conflict" else "ada"},
    }
    return json.dumps(event).encode()


async def publish(port: int, kind: str, event_id: str, recorder: Recorder) -> Way:
    """Publish one event over a connection of its own; the way that it went."""
    content = body(kind, event_id)
    head = (
        "POST /publish HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0.05)  # the connection is accepted, and whatever came before is over
    recorder.is_recording = True
    writer.write(head.encode() + content)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
    length = next(line for line in lines if line.startswith("content-length:"))
    answer = await reader.readexactly(int(length.partition(":")[2]))
    recorder.is_recording = False
    writer.close()
    await writer.wait_closed()
    status = json.loads(answer)["results"][0]["status"]
    assert status == STATUSES[kind], f"an event that should be {kind} is {status}"
    return recorder.taken()


async def trace(folder: str, recorder: Recorder) -> dict[str, Way]:
    """The ways of each kind of event, each alone, in a service that has seen others."""
    configuration = load({"store": f"sqlite:///{folder}/aggregator.db"}, {})
    runner = web.AppRunner(create_app(configuration, Plugins.installed()), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        # What is loaded or remembered once should not count, so each kind comes twice.
        for event_id in ("first", "second"):
            ways = {kind: await publish(port, kind, event_id, recorder) for kind in STATUSES}
    finally:
        await runner.cleanup()
    return ways


def show(ways: dict[str, Way], kind: str) -> None:
    """Print how long each way is, and one in full."""
    print(f"{'one event':12} {'files':>6} {'lines':>6} {'moves':>6}")
    for name, way in ways.items():
        print(f"{name:12} {len(way.lines):6} {sum(way.lines.values()):6,} {way.moves:6}")
    print(f"\nThe files that it passes if it is {kind}, in the order in which it first does, with")
    print("their lines and the functions that are called or resumed in each:\n")
    for number, (path, functions) in enumerate(ways[kind].functions.items(), 1):
        print(f"{number:3}  {path.as_posix()} ({ways[kind].lines[path]})")
        indent = " " * 9
        if functions:
            print(
                textwrap.fill(
                    ", ".join(functions),
                    100,
                    initial_indent=indent,
                    subsequent_indent=indent,
                    break_long_words=False,
                )
            )


def ways() -> dict[str, Way]:
    """The ways of each kind of event through a new service."""
    with tempfile.TemporaryDirectory() as folder, Recorder() as recorder:
        return asyncio.run(trace(folder, recorder))


def main() -> None:
    """Trace, and print."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "new"
    if kind not in STATUSES:
        sys.exit(f"{kind!r} is no kind of event; there are {', '.join(STATUSES)}")
    show(ways(), kind)


if __name__ == "__main__":
    main()
