"""JSON pointers (RFC 6901): to say where something is, and to find what is there."""

import json
import re

from aggregator import number

_LONGEST = 500
_LONGEST_SHOWN = 100
_BAD_ESCAPE = re.compile("~(?![01])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INDEX = re.compile("0|[1-9][0-9]{0,8}")

Tokens = tuple[str, ...]


def to(*path: object) -> str:
    """The pointer to a place, or to what holds it where it is too long or UTF-8 cannot hold it."""
    pointer = ""
    for part in path:
        step = f"/{_escaped(str(part))}"
        if len(pointer) + len(step) > _LONGEST or _SURROGATE.search(step):
            break
        pointer += step
    return pointer


def parse(text: str) -> Tokens:
    """The names and indexes that a pointer goes through. Raises ValueError if it is none."""
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} is no JSON pointer: one begins with a slash")
    if _BAD_ESCAPE.search(text):
        raise ValueError(f"{text!r} is no JSON pointer: ~ is written ~0, and / is ~1")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def scalar(payload: bytes, tokens: Tokens) -> bytes | None:
    """The string, number or boolean there, so spelled that equal values are equal bytes.

    None where the payload has nothing there, or null, an array or an object.
    """
    value = json.loads(payload, parse_float=_Number, parse_int=_Number)
    for step in tokens:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and _is_index(step, value):
            value = value[int(step)]
        else:
            return None
    return _spelled(value)


def scalar_of(text: str) -> bytes:
    """What `scalar` gives for a value written as JSON; what is no JSON is a string.

    Raises ValueError for null, an array or an object.
    """
    try:
        value = json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=str)
    except (ValueError, RecursionError):
        value = text
    spelled = _spelled(value)
    if spelled is None:
        raise ValueError("Only strings, numbers and booleans can be compared.")
    return spelled


def cut(text: str) -> str:
    """The text, or as much of it as is worth showing."""
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


class _Number(str):
    """The spelling of a number."""

    __slots__ = ()


def _is_index(step: str, array: list[object]) -> bool:
    return _INDEX.fullmatch(step) is not None and int(step) < len(array)


def _spelled(value: object) -> bytes | None:
    if isinstance(value, _Number):
        return b"n" + number.canonical(value).encode()
    if isinstance(value, bool):
        return b"b1" if value else b"b0"
    if isinstance(value, str):
        return b"s" + value.encode(errors="surrogatepass")
    return None


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
