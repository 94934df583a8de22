"""When two JSON values are the same, and one spelling for all that are equal."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import cached_property
from itertools import islice

from aggregator.core import json_pointer
from aggregator.core.json_pointer import Tokens

_INDEX = re.compile("0|[1-9][0-9]{0,8}")
_PARTS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_SHORT = 18  # digits of an exponent that is added to as an int


def canonical_number(spelling: str) -> str:
    """The number with every digit of it: 10, 10.0 and 1e1 are all 1e1. Takes linear time."""
    parts = _PARTS.fullmatch(spelling)
    if not parts:
        return spelling
    sign, whole, fraction, minus, exponent = parts.groups(default="")
    significant = (whole + fraction).lstrip("0")
    stripped = significant.rstrip("0")
    if not stripped:
        return "0"
    tens = _sum(minus, exponent.lstrip("0"), len(significant) - len(stripped) - len(fraction))
    return f"{sign}{stripped}e{tens}"


def _sum(sign: str, digits: str, added: int) -> str:
    """The decimal number `added` to. A long one by Decimal: `int` takes quadratic time to read."""
    if len(digits) <= _SHORT:
        return str(int(f"{sign}{digits or 0}") + added)
    exact = Context(prec=len(digits) + _SHORT, Emax=MAX_EMAX, Emin=MIN_EMIN)
    return f"{exact.add(exact.create_decimal(sign + digits), added):f}"


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


def may_have(tokens: Tokens, value: bytes) -> Callable[[bytes], bool]:
    """A quick test: False only for bytes within which no payload has that value there.

    Where no backslash escapes anything, names and strings stand in a payload as they are, and the
    digits of a number as they are but for a point. `value` and `tokens` are those of `scalar`.
    """
    kind, spelled = value[:1], value[1:]
    texts = [b'"%b"' % _encoded(token) for token in tokens if not _INDEX.fullmatch(token)]
    digits = b""
    if kind == b"s":
        texts.append(b'"%b"' % spelled)
    elif kind == b"b":
        texts.append(b"true" if spelled == b"1" else b"false")
    else:
        digits = spelled.lstrip(b"-").partition(b"e")[0]

    def test(within: bytes) -> bool:
        if all(text in within for text in texts) and (
            digits in within or digits in within.translate(None, b".")
        ):
            return True
        return b"\\" in within

    return test


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # as `json.loads` reads it


class JsonValue:
    """A payload as a JSON value, to be compared with others.

    The order of members and the spelling of numbers do not matter (RFC 8259, 4 and 6): 1, 1.0
    and 1e0 are the same, and no digit is lost on the way, however many there are.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._has_booleans = b"true" in payload or b"false" in payload
        try:
            self._exact = json.loads(payload, parse_float=Decimal)
        except InvalidOperation:  # an exponent that even Decimal cannot hold
            self._exact = json.loads(payload, parse_float=_decimal)

    def is_same(self, other: "JsonValue") -> bool:
        """Whether the other payload is the same value."""
        if self._exact != other._exact:
            return False
        # Python counts true and false among the numbers: look again with the numbers left out.
        has_booleans = self._has_booleans or other._has_booleans
        return not has_booleans or self._without_numbers == other._without_numbers

    def differences(self, other: "JsonValue", most: int) -> list[str]:
        """JSON pointers to the first places, `most` of them, where the two are not the same."""
        skips = not (self._has_booleans or other._has_booleans)
        found = _differing((), self._exact, other._exact, skips)
        places = (json_pointer.to(*path) for path in islice(found, most))
        return list(dict.fromkeys(places))

    @cached_property
    def _without_numbers(self) -> object:
        return json.loads(self._payload, parse_int=_out, parse_float=_out)


Path = tuple[str | int, ...]


def _differing(path: Path, one: object, other: object, skips: bool) -> Iterator[Path]:
    """The places, as deep as they can be told apart; lists of unequal length differ as a whole.

    With `skips` what Python calls equal is not gone through: it is the same where nothing is true
    or false, which Python counts among the numbers.
    """
    if skips and one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one:  # lazily: who wants the first few only does not pay for all
            if name in other:
                yield from _differing((*path, name), one[name], other[name], skips)
            else:
                yield (*path, name)
        yield from ((*path, name) for name in other if name not in one)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from _differing((*path, index), first, second, skips)
    elif one != other or isinstance(one, bool) != isinstance(other, bool):
        yield path


def _decimal(spelling: str) -> object:
    """The number as a Decimal, whichever way it is spelled; its canonical spelling if it is none.

    Of two spellings of one number Decimal may hold one and not the other: the canonical one tells.
    """
    with suppress(InvalidOperation):
        return Decimal(spelling)
    same = canonical_number(spelling)
    with suppress(InvalidOperation):
        return Decimal(same)
    return (same,)


def _out(_: str) -> None:
    return None


class _Number(str):
    """The spelling of a number."""

    __slots__ = ()


def _is_index(step: str, array: list[object]) -> bool:
    return _INDEX.fullmatch(step) is not None and int(step) < len(array)


def _spelled(value: object) -> bytes | None:
    if isinstance(value, _Number):
        return b"n" + canonical_number(value).encode()
    if isinstance(value, bool):
        return b"b1" if value else b"b0"
    if isinstance(value, str):
        return b"s" + _encoded(value)
    return None
