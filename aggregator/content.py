"""The content of an event: its source and payload, and when two of them are equal."""

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import islice

from aggregator import number, pointer

_VERSION = b"\x01"
_SIZE = 16
_LONGEST_KEPT = 255  # of a source with which hashing is begun once only


class Form(Enum):
    """What a payload is. Only a CloudEvent's may be anything but JSON."""

    JSON = 0
    BYTES = 1
    NOTHING = 2


def digest_of(source: str, payload: bytes, form: Form = Form.JSON) -> bytes:
    """A version byte and blake2b (16 bytes) over the content as it was sent.

    Equal digests mean equal contents; unequal ones may still be spellings of the same JSON
    values, which `Value` decides.
    """
    if form is _JSON and len(source) <= _LONGEST_KEPT:
        content = _kept(source).copy()
    else:
        content = _begun(source, form)
    content.update(payload)
    return _VERSION + content.digest()


_JSON = Form.JSON  # looked up once: enumerations take their time, and to hash them more
_PERSONS = {Form.JSON: b"", Form.BYTES: b"bytes", Form.NOTHING: b"nothing"}


def _begun(source: str, form: Form = Form.JSON) -> blake2b:
    encoded = source.encode()
    length = len(encoded).to_bytes(4, "big")
    return blake2b(length + encoded, digest_size=_SIZE, person=_PERSONS[form])


_kept = lru_cache(1024)(_begun)


def is_damaged(source: str, payload: bytes | None, digest: bytes, form: Form) -> bool:
    """Whether what was read back is not what the digest was made of; a payload may be gone."""
    return payload is not None and digest_of(source, payload, form) != digest


class Value:
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

    def is_same(self, other: "Value") -> bool:
        """Whether the other payload is the same value."""
        if self._exact != other._exact:
            return False
        # Python counts true and false among the numbers: look again with the numbers left out.
        has_booleans = self._has_booleans or other._has_booleans
        return not has_booleans or self._without_numbers == other._without_numbers

    def differences(self, other: "Value", most: int) -> list[str]:
        """JSON pointers to the first places, `most` of them, where the two are not the same."""
        found = _differing((), self._exact, other._exact)
        places = (pointer.to(*path) for path in islice(found, most))
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
        same = number.canonical(spelling)
        return 0 if same == "0" else (same,)


def _out(_: str) -> None:
    return None
