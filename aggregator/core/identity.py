"""Which events are the same (their keys), and which have the same content (their digests).

All hashes here are written into every store. Changing one makes stored events new, so they carry
a version, and what keys are made of is kept in the store and compared at every start.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from hashlib import blake2b
from operator import attrgetter
from typing import Protocol

from aggregator.core import json_pointer, json_values

DEFAULT_KEY_SPEC = "topic,event_id"
"""What keys are made of unless a setting says otherwise: the parts, in order."""

KEY_SIZE = 16
"""Bytes of a key."""
_ALWAYS_THERE = ("topic", "event_id", "source")
_OPTIONAL = "timestamp"
_MEMBERS = (*_ALWAYS_THERE, _OPTIONAL)
_HEADER = "header:"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def key_of(topic: str, event_id: str) -> bytes:
    """The key by the default key spec: blake2b, 16 bytes, over version, key spec and the parts.

    A cryptographic hash, because whoever can forge a collision can make an event disappear. It is
    also the name by which an event is found whose key is made of something else.
    """
    return _hashed(_DEFAULT, (topic.encode(), event_id.encode()))


class MissingKeyPart(ValueError):
    """An event lacks a part of its key; `part` is spelled as in key specs."""

    def __init__(self, part: str, detail: str) -> None:
        super().__init__(detail)
        self.part = part
        self.is_member = part in _MEMBERS


class Members(Protocol):
    """The members of an event that its key may be made of; the timestamp may be empty."""

    @property
    def topic(self) -> str:
        """What the event belongs to."""

    @property
    def event_id(self) -> str:
        """What its publisher calls it."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    @property
    def timestamp(self) -> str:
        """When it happened."""


class KeySpec:
    """The parts of which a key is made, in order.

    Each is a member of the event (`topic`, `event_id`, `source`, `timestamp`), a JSON pointer into
    its payload (`/order/id`), or a header of the request (`header:X-GitHub-Delivery`).
    """

    def __init__(self, text: str) -> None:
        """Read `topic, /order/id`. Raises ValueError."""
        self.parts = tuple(_part(part.strip()) for part in text.split(","))
        if len(set(self.parts)) < len(self.parts):
            raise ValueError(f"{text!r} names a part twice")
        if all(part == "topic" for part in self.parts):
            raise ValueError(f"{text!r} would make all events of a topic the same")
        self.text = ",".join(self.parts)
        self.is_default = self.text == DEFAULT_KEY_SPEC
        self._begun = _begun(self.text)
        # The quick way to parts of which none can be missing; of two, for it to return a tuple.
        is_quick = len(self.parts) > 1 and set(self.parts) <= set(_ALWAYS_THERE)
        self._always_there = attrgetter(*self.parts) if is_quick else None
        self._pointers = {part: json_pointer.parse(part) for part in self.parts if part[0] == "/"}

    def with_source(self) -> "KeySpec":
        """The same for CloudEvents, whose ids are unique by source only."""
        return self if "source" in self.parts else KeySpec(f"{self.text},source")

    @property
    def headers(self) -> frozenset[str]:
        """The names of the headers that the key is made of."""
        found = (part.removeprefix(_HEADER) for part in self.parts if part.startswith(_HEADER))
        return frozenset(found)

    def key(self, event: Members, payload: bytes | None, headers: Mapping[str, str]) -> bytes:
        """The key of an event; `payload` is None if it is no JSON. Raises MissingKeyPart."""
        if self._always_there:
            return _hashed(self._begun, [part.encode() for part in self._always_there(event)])
        parts = [self._value(part, event, payload, headers) for part in self.parts]
        return _hashed(self._begun, parts)

    def _value(
        self,
        part: str,
        event: Members,
        payload: bytes | None,
        headers: Mapping[str, str],
    ) -> bytes:
        if part in _MEMBERS:
            value: str = getattr(event, part)
            if part == _OPTIONAL and not value:
                raise MissingKeyPart(part, f"The key is made of the {part}, which is missing.")
            return value.encode()
        if part.startswith(_HEADER):
            name = part.removeprefix(_HEADER)
            if not headers.get(name):
                raise MissingKeyPart(
                    part, f"The key is made of the header {name}, which was not sent."
                )
            return headers[name].encode(errors="surrogateescape")
        found = None if payload is None else json_values.scalar(payload, self._pointers[part])
        if found is None:
            raise MissingKeyPart(
                part, "The key is made of this; it should be a string, a number or a boolean."
            )
        return found


def _part(part: str) -> str:
    """The part in its one spelling. Raises ValueError if it is none."""
    if part in _MEMBERS:
        return part
    if part.startswith("/"):
        json_pointer.parse(part)
        return part
    name = part.removeprefix(_HEADER)
    if name != part and _TOKEN.fullmatch(name):
        return _HEADER + name.lower()
    raise ValueError(
        f"{part!r} is no part of a key; try {', '.join(_MEMBERS)}, /a/pointer/into/the/payload "
        "or header:Some-Name"
    )


def _begun(key_spec: str) -> blake2b:
    """A hash object that was fed the prefix; to copy it costs half as much as to make one."""
    prefix = b"\x01" + len(key_spec).to_bytes(4, "big") + key_spec.encode()
    return blake2b(prefix, digest_size=KEY_SIZE)


def _hashed(begun: blake2b, parts: Iterable[bytes]) -> bytes:
    """The hash over the parts, each with its length before it."""
    hashed = begun.copy()
    for part in parts:
        hashed.update(len(part).to_bytes(4, "big") + part)
    return hashed.digest()


_DEFAULT = _begun(DEFAULT_KEY_SPEC)


_AS_SENT = b"\x01"
"""The version of a digest over the content as it was sent.

The only one so far. Another one says that the digest is over something else, such as canonical JSON
without the members that are left out of the comparison: it cannot be made again from the payload
that is stored, and tells of no damage. What a store keeps has a checksum besides.
"""
_DIGEST_SIZE = 16
DIGEST_SIZE = len(_AS_SENT) + _DIGEST_SIZE
"""Bytes of a digest."""


class PayloadKind(Enum):
    """What a payload is. Only a CloudEvent's may be anything but JSON."""

    JSON = 0
    BYTES = 1
    NOTHING = 2


def digest_of(source: str, payload: bytes, kind: PayloadKind = PayloadKind.JSON) -> bytes:
    """A version byte and blake2b (16 bytes) over the content as it was sent.

    Equal digests mean equal contents; unequal ones may still be spellings of the same JSON
    values, which `JsonValue` decides.
    """
    content = (_BEGUN_JSON if kind is _JSON else _BEGUN[kind]).copy()
    encoded = source.encode()
    content.update(len(encoded).to_bytes(4, "big") + encoded + payload)
    return _AS_SENT + content.digest()


_PERSONS = {PayloadKind.JSON: b"", PayloadKind.BYTES: b"bytes", PayloadKind.NOTHING: b"nothing"}
_BEGUN = {
    kind: blake2b(digest_size=_DIGEST_SIZE, person=person)  # a copy costs half of a new one
    for kind, person in _PERSONS.items()
}
_JSON = PayloadKind.JSON  # a constant: to look up a member of an enum is slow, to hash it slower
_BEGUN_JSON = _BEGUN[_JSON]


def is_damaged(source: str, payload: bytes | None, digest: bytes, kind: PayloadKind) -> bool:
    """Whether what was read back is not what the digest was made of; a payload may be gone."""
    if payload is None or (digest and not digest.startswith(_AS_SENT)):
        return False
    return digest_of(source, payload, kind) != digest
