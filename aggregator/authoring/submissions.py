"""The submissions that `aggregator try` makes of what it reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from aggregator.errors import SettingError

SAMPLE = (files("aggregator.authoring") / "events.ndjson").read_bytes()
"""A few events: a duplicate, a conflict, an invalid one, and one of another topic among them."""


@dataclass(frozen=True)
class Source:
    """Where events are read: the name of a file, say, and its bytes."""

    name: str
    content: bytes

    @classmethod
    def file(cls, path: Path) -> "Source":
        """The file. Raises SettingError."""
        try:
            return cls(str(path), path.read_bytes())
        except OSError as error:
            raise SettingError(f"cannot read {path}: {error.strerror}") from error


@dataclass(frozen=True)
class Body:
    """What one submission is made of: JSON, or lines of it."""

    content: bytes
    is_json: bool
    source: str
    line: int | None = None
    """Its line in the source, if it is one; from 1."""

    def place(self, index: int) -> str:
        """Where that event of the submission stands: `3` is a line, `[0]` the first of several."""
        place = f"[{index}]" if self.line is None else str(self.line)
        return f"{self.source}:{place}" if self.source else place


def bodies(sources: list[Source], *, is_together: bool) -> Iterator[Body]:
    """A body for each JSON document and for each line that is not blank.

    The lines of a source are one body if they are to be sent together.
    """
    for source in sources:
        name = source.name if len(sources) > 1 else ""
        content = source.content.removeprefix(b"\xef\xbb\xbf").strip()
        if content.startswith(b"["):
            yield Body(content, True, name)
        elif _is_document(content):
            yield Body(content, True, name, source.content.partition(content)[0].count(b"\n") + 1)
        elif is_together and content:
            yield Body(content, False, name)
        else:
            for number, line in enumerate(source.content.split(b"\n"), 1):
                if line.strip():
                    yield Body(line, False, name, number)


def _is_document(content: bytes) -> bool:
    """Whether it is one JSON value on many lines, and not one on each."""
    if b"\n" not in content:
        return False
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
