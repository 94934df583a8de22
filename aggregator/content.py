"""The content of an event: its source and payload, and when two of them are equal."""

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cached_property
from hashlib import blake2b
from itertools import islice

from aggregator.core import json_pointer, json_values

_VERSION = b"\x01"
_SIZE = 16


class PayloadKind(Enum):
    """What a payload is. Only a CloudEvent's may be anything but JSON."""

    JSON = 0
    BYTES = 1
    NOTHING = 2


def digest_of(source: str, payload: bytes, form: PayloadKind = PayloadKind.JSON) -> bytes:
    """A version byte and blake2b (16 bytes) over the content as it was sent.

    Equal digests mean equal contents; unequal ones may still be spellings of the same JSON
    values, which `Value` decides.
    """
    content = (_BEGUN_JSON if form is _JSON else _BEGUN[form]).copy()
    encoded = source.encode()
    content.update(len(encoded).to_bytes(4, "big") + encoded + payload)
    return _VERSION + content.digest()


_PERSONS = {PayloadKind.JSON: b"", PayloadKind.BYTES: b"bytes", PayloadKind.NOTHING: b"nothing"}
_BEGUN = {
    form: blake2b(digest_size=_SIZE, person=person)  # begun once: a copy costs half of a new one
    for form, person in _PERSONS.items()
}
_JSON = PayloadKind.JSON  # looked up once: enumerations take their time, and to hash them more
_BEGUN_JSON = _BEGUN[_JSON]


def is_damaged(source: str, payload: bytes | None, digest: bytes, form: PayloadKind) -> bool:
    """Whether what was read back is not what the digest was made of; a payload may be gone."""
    return payload is not None and digest_of(source, payload, form) != digest


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
        found = _differing((), self._exact, other._exact)
        places = (json_pointer.to(*path) for path in islice(found, most))
        return list(dict.fromkeys(places))

    @cached_property
    def _without_numbers(self) -> object:
        return json.loads(self._payload, parse_int=_out, parse_float=_out)


Path = tuple[str | int, ...]


def _differing(path: Path, one: object, other: object) -> Iterator[Path]:
    """The places, as deep as they can be told apart; lists of unequal length differ as a whole."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one:  # lazily: who wants the first few only does not pay for all
            if name in other:
                yield from _differing((*path, name), one[name], other[name])
            else:
                yield (*path, name)
        yield from ((*path, name) for name in other if name not in one)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from _differing((*path, index), first, second)
    elif one != other or isinstance(one, bool) != isinstance(other, bool):
        yield path


def _decimal(spelling: str) -> object:
    try:
        return Decimal(spelling)
    except InvalidOperation:
        same = json_values.canonical_number(spelling)
        return 0 if same == "0" else (same,)


def _out(_: str) -> None:
    return None
