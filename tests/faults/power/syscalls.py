"""The system calls of a process, as strace writes them down."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

FLAGS = ("-f", "-y", "-xx", "-s", "100000000")
"""All threads, paths beside the numbers of files, all strings in hex and whole."""

_HEX = r"(?:\\x[0-9a-f]{2})*"
_STRING = re.compile(f'"({_HEX})"')
_FILE = re.compile(rf"\d+<({_HEX})>(\(deleted\))?")
_NUMBER = re.compile(r"-?\d+")
_UNFINISHED = " <unfinished ...>"


@dataclass
class Call:
    """One call, with the lines in which it begins and ends.

    It has no end and no result where the process died in it.
    """

    name: str
    arguments: str
    began: int
    ended: int | None = None
    result: int | None = None

    def end(self, line: int, result: str) -> None:
        """It returned."""
        if value := _NUMBER.match(result):
            self.ended, self.result = line, int(value[0])

    @property
    def strings(self) -> list[bytes]:
        """What stands between quotes."""
        return [_decoded(found) for found in _STRING.findall(self.arguments)]

    @property
    def path(self) -> str:
        """Of the open file that it is about, or of the one it names; empty if it was removed."""
        if not (found := _FILE.match(self.arguments)):
            return self.strings[0].decode()
        return "" if found[2] else _decoded(found[1]).decode()

    @property
    def numbers(self) -> list[int]:
        """The plain numbers among the arguments."""
        return [int(found) for found in self.arguments.split(", ") if found.isdigit()]


def encoded(text: str) -> str:
    """As strace writes a string with `-xx`."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def calls(lines: Iterable[str], first: int, *wanted: str) -> list[Call]:
    """The calls that have one of these strings among their arguments, in the order they began.

    `first` is the number of the first line.
    """
    marks = [encoded(text) for text in wanted]
    found: list[Call] = []
    under_way: dict[str, Call] = {}
    for number, line in enumerate(lines, first):
        thread, _, text = line.rstrip().partition(" ")
        text = text.lstrip()
        if text.startswith("<... "):
            if call := under_way.pop(thread, None):
                call.end(number, text.rpartition(" = ")[2])
        elif any(mark in text for mark in marks):
            name, _, rest = text.partition("(")
            if rest.endswith(_UNFINISHED):
                call = under_way[thread] = Call(name, rest.removesuffix(_UNFINISHED), number)
            else:
                arguments, _, result = rest.rpartition(" = ")
                call = Call(name, arguments.rstrip().removesuffix(")"), number)
                call.end(number, result)
            found.append(call)
    return found
