"""The content of an event: its source and payload, and when two of them are equal."""

import json
from collections.abc import Callable
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
    if payload == other:
        return True
    if _values(payload, int, _decimal) != _values(other, int, _decimal):
        return False
    # Python counts true and false among the numbers: look again with the numbers left out.
    return not _has_booleans(payload) or _values(payload, _out, _out) == _values(other, _out, _out)


def _values(
    payload: bytes, whole: Callable[[str], object], decimal: Callable[[str], object]
) -> object:
    return json.loads(payload, parse_int=whole, parse_float=decimal)


def _decimal(spelling: str) -> object:
    try:
        return Decimal(spelling)
    except InvalidOperation:  # an exponent that even Decimal cannot hold: compare the spelling
        return (spelling,)


def _out(_: str) -> None:
    return None


def _has_booleans(payload: bytes) -> bool:
    return b"true" in payload or b"false" in payload
