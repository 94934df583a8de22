"""Which JSON is taken: what every reader can read back, and what keeps its value on the way.

The grammar of RFC 8259 allows text that breaks readers. Refused beyond it: lone surrogates and
U+0000 (no string elsewhere can hold them), numbers beyond a double (RFC 7493, 2.2: they become
infinite), and nesting deeper than MAX_DEPTH. Digits are not limited: an integer of 30 is kept.
"""

import json
import math
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice

from aggregator.outcome import Fault

MAX_DEPTH = 100
"""Levels of arrays and objects in one event, itself included."""

# Possessive, so that no string makes the matcher remember its way back.
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
"""What structure consists of: whole strings, brackets, commas, and a quote that never closes."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 40
_MOST = 20


def faults(raw: bytes) -> list[Fault]:
    """What in `raw` is not taken, the first few of it; empty if nothing. Slow: for suspects."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return [Fault("", f"not UTF-8: {error.reason} at byte {error.start}")]
    if _is_too_deep(raw):
        return [Fault("", f"nested deeper than {MAX_DEPTH} levels")]
    try:
        value = json.loads(text, parse_constant=_Refused, parse_float=_number, parse_int=_number)
    except ValueError as error:
        return [Fault("", f"not JSON: {error}")]
    return list(islice(_walk("", value), _MOST))


class _Refused(str):
    """The spelling of a value that is not taken."""

    __slots__ = ()


def _number(spelling: str) -> object:
    return _Refused(spelling) if math.isinf(float(spelling)) else 0


def _is_too_deep(raw: bytes) -> bool:
    depth = 0
    for token in TOKEN.finditer(raw):
        bracket = token.group()
        if bracket in b"[{":
            depth += 1
        elif bracket in b"]}":
            depth -= 1
        if depth > MAX_DEPTH:
            return True
    return False


def _walk(pointer: str, value: object) -> Iterator[Fault]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _walk_text(pointer, name, "the name of a member")
            yield from _walk(f"{pointer}/{escape(name)}", member)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _walk(f"{pointer}/{index}", element)
    elif isinstance(value, _Refused):
        yield Fault(pointer, f"{_shown(value)} is not a number that every reader can hold")
    elif isinstance(value, str):
        yield from _walk_text(pointer, value, "the string")


def _walk_text(pointer: str, text: str, what: str) -> Iterator[Fault]:
    fault = partial(Fault, pointer)
    if "\0" in text:
        yield fault(f"{what} holds U+0000, which databases cannot store")
    if lone := _LONE_SURROGATE.search(text):
        yield fault(f"{what} holds \\u{ord(lone.group()):04x}, half of a surrogate pair")


def _shown(spelling: str) -> str:
    return spelling if len(spelling) <= _SHOWN else spelling[:_SHOWN] + "…"


def escape(name: str) -> str:
    """The name as a part of a JSON pointer (RFC 6901, 3); what UTF-8 cannot hold as `?`."""
    portable = name.encode(errors="replace").decode()
    return portable.replace("~", "~0").replace("/", "~1")
