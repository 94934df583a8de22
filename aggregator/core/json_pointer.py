"""JSON pointers (RFC 6901): to say where something is."""

import re

from aggregator.core.quoting import quoted

_LONGEST = 500
_BAD_ESCAPE = re.compile("~(?![01])")
_SURROGATE = re.compile("[\ud800-\udfff]")

Tokens = tuple[str, ...]


def to(*path: object) -> str:
    """The pointer to a place; to a parent of it where it would be too long or not valid UTF-8."""
    pointer = ""
    for part in path:
        name = str(part)
        if len(pointer) + len(name) >= _LONGEST:  # looked at first: a name may have a million
            break
        step = f"/{_escaped(name)}"
        if len(pointer) + len(step) > _LONGEST or _SURROGATE.search(step):
            break
        pointer += step
    return pointer


def parse(text: str) -> Tokens:
    """The names and indexes that a pointer goes through. Raises ValueError if it is none."""
    if text and not text.startswith("/"):
        raise ValueError(f"{quoted(text)} is no JSON pointer: one begins with a slash")
    if _BAD_ESCAPE.search(text):
        raise ValueError(f"{quoted(text)} is no JSON pointer: ~ is written ~0, and / is ~1")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
