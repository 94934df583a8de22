"""The content of an event: its source and payload, and when two of them are equal."""

import json
from decimal import Decimal, InvalidOperation
from hashlib import blake2b

_VERSION = b"\x01"
_SIZE = 16


def digest_of(source: str, payload: bytes) -> bytes:
    """A version byte and blake2b (16 bytes) over the content as it was sent.

    Equal digests mean equal contents; unequal ones may still be spellings of the same JSON
    values, which `is_same` decides.
    """
    encoded = source.encode()
    content = blake2b(len(encoded).to_bytes(4, "big") + encoded, digest_size=_SIZE)
    content.update(payload)
    return _VERSION + content.digest()


def is_same(payload: bytes, other: bytes) -> bool:
    """Whether two payloads are the same JSON value.

    The order of members and the spelling of numbers do not matter (RFC 8259, 4 and 6): 1, 1.0
    and 1e0 are the same, and no digit is lost on the way, however many there are.
    """
    return payload == other or _values(payload) == _values(other)


def _values(payload: bytes) -> object:
    return json.loads(payload, parse_int=_number, parse_float=_number)


def _number(spelling: str) -> object:
    try:
        return _Number(spelling)
    except InvalidOperation:  # an exponent that even Decimal cannot hold: compare the spelling
        return spelling.encode()


class _Number(Decimal):
    """A decimal that is not equal to true or false, which Python counts among the numbers."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and Decimal.__eq__(self, other)

    __hash__ = Decimal.__hash__
