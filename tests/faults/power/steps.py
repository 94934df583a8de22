"""What a process did that a power cut can undo, and what it told others meanwhile."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from power.syscalls import Call

TRACED = (
    *("openat", "mkdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "linkat"),
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate", "lseek"),
    *("fsync", "fdatasync", "sendto", "sendmsg"),
)
"""The calls that matter: those that are steps, and those that are known not to be modelled."""

IGNORED = ("-shm", ".lock", "stderr.log")
"""How the names of files end that need not survive their process."""

HTTP = "HTTP/1.1 "


@dataclass(frozen=True)
class Step:
    """Something was done. Paths are relative to the folder, and empty for itself."""

    at: int
    """Orders the steps, and tells which of them a sync covers."""


@dataclass(frozen=True)
class Create(Step):
    """The path names a new file or folder, unless it names one already."""

    path: str
    is_folder: bool = False


@dataclass(frozen=True)
class Remove(Step):
    """The path names nothing any more."""

    path: str


@dataclass(frozen=True)
class Write(Step):
    """Bytes of the file were replaced, from this offset on."""

    path: str
    offset: int
    content: bytes


@dataclass(frozen=True)
class Truncate(Step):
    """The file was cut off, or filled up with zeros, to this size in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Sync(Step):
    """A sync of a file or folder has ended; it covers what was done before it began."""

    path: str
    began: int
    succeeded: bool


@dataclass(frozen=True)
class Answer(Step):
    """An HTTP answer is on its way."""

    status: int
    content: Any


class NotModelled(Exception):
    """A process has done what the simulator knows nothing of."""


def steps(calls: Iterable[Call], folder: str) -> list[Step]:
    """What the calls did to the files in the folder, and the answers, in order."""
    places: dict[str, int] = {}
    found = [step for call in calls for step in _step(call, folder, places)]
    return sorted(found, key=lambda step: step.at)


def _step(call: Call, folder: str, places: dict[str, int]) -> Iterator[Step]:
    if call.name.startswith("send"):
        yield from _answer(call)  # also if the process died in it: somebody may have read it
    if call.ended is None or call.result is None or (call.result < 0 and "sync" not in call.name):
        return
    if f"{call.path}/".startswith(f"{folder}/") and not call.path.endswith(IGNORED):
        path = call.path.removeprefix(folder).removeprefix("/")
        yield from _change(call.ended, call, path, places)


def _change(at: int, call: Call, path: str, places: dict[str, int]) -> Iterator[Step]:
    """`places` are those to which the files were wound, for writes that do not name theirs."""
    match call:
        case Call("openat") if "O_TRUNC" not in call.arguments:
            yield from [Create(at, path)] if "O_CREAT" in call.arguments else []
        case Call("mkdir"):
            yield Create(at, path, is_folder=True)
        case Call("unlink"):
            yield Remove(at, path)
        case Call("pwrite64", result=int(size)):
            yield Write(at, path, call.numbers[-1], call.strings[0][:size])
        case Call("lseek", result=int(place)):
            places[path] = place
        case Call("write", result=int(size)) if path in places:
            yield Write(at, path, places[path], call.strings[0][:size])
            places[path] += size
        case Call("ftruncate"):
            yield Truncate(at, path, call.numbers[-1])
        case Call("fsync" | "fdatasync"):
            yield Sync(at, path, call.began, succeeded=call.result == 0)
        case _:
            raise NotModelled(f"{call.name} on {path}")


def _answer(call: Call) -> Iterator[Answer]:
    head, _, content = b"".join(call.strings).partition(b"\r\n\r\n")
    if head.startswith(HTTP.encode()):
        yield Answer(call.began, int(head.split()[1]), json.loads(content))
