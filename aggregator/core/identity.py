"""Which events are the same (their keys), and which have the same content (their digests).

All hashes here are written into every store. Changing one makes stored events new, so they carry
a version, and what keys are made of is kept in the store and compared at every start.
"""

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from hashlib import blake2b

from aggregator.core import json_pointer, json_values

DEFAULT_KEY_SPEC = "topic,event_id"
"""The recipe of a key unless a setting names another one: its parts, in order."""

KEY_SIZE = 16
"""Bytes of a key."""
_LONGEST_KNOWN = 255  # of a topic or source with which hashing is begun once only
_MEMBERS = ("topic", "event_id", "source", "timestamp")
_OPTIONAL = "timestamp"
_HEADER = "header:"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def key_of(topic: str, event_id: str) -> bytes:
    """The key by the usual recipe: blake2b, 16 bytes, over version, recipe and the parts.

    A cryptographic hash, because whoever can forge a collision can make an event disappear. It is
    also the name by which an event of any other recipe is found.
    """
    begun = _known_topic(topic) if len(topic) <= _LONGEST_KNOWN else _key_hash_begun(topic)
    hashed = begun.copy()
    encoded = event_id.encode()
    length = len(encoded)
    hashed.update((_LENGTHS[length] if length < _SHORT else _length(length)) + encoded)
    return hashed.digest()


class MissingKeyPart(ValueError):
    """An event lacks a part of its key, as recipes spell it."""

    def __init__(self, part: str, detail: str) -> None:
        super().__init__(detail)
        self.part = part
        self.is_member = part in _MEMBERS


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
        self.is_usual = self.text == DEFAULT_KEY_SPEC
        self._prefix = _prefix(self.text)
        self._pointers = {part: json_pointer.parse(part) for part in self.parts if part[0] == "/"}

    def with_source(self) -> "KeySpec":
        """The same for CloudEvents, whose ids are unique by source only."""
        return self if "source" in self.parts else KeySpec(f"{self.text},source")

    @property
    def headers(self) -> frozenset[str]:
        """The names of the headers that the key is made of."""
        found = (part.removeprefix(_HEADER) for part in self.parts if part.startswith(_HEADER))
        return frozenset(found)

    def key(
        self, members: Mapping[str, str], payload: bytes | None, headers: Mapping[str, str]
    ) -> bytes:
        """The key of an event; `payload` is None if it is no JSON. Raises Missing."""
        return _hashed(
            self._prefix, *(self._value(part, members, payload, headers) for part in self.parts)
        )

    def _value(
        self,
        part: str,
        members: Mapping[str, str],
        payload: bytes | None,
        headers: Mapping[str, str],
    ) -> bytes:
        if part in _MEMBERS:
            if part == _OPTIONAL and not members[part]:
                raise MissingKeyPart(part, f"The key is made of the {part}, which is missing.")
            return members[part].encode()
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
    """The part as recipes spell it. Raises ValueError if it is none."""
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


def _prefix(key_spec: str) -> bytes:
    return b"\x01" + len(key_spec).to_bytes(4, "big") + key_spec.encode()


def _hashed(prefix: bytes, *parts: bytes) -> bytes:
    hashed = blake2b(prefix, digest_size=KEY_SIZE)
    for part in parts:
        hashed.update(_with_length(part))
    return hashed.digest()


def _with_length(part: bytes) -> bytes:
    return _length(len(part)) + part


def _length(length: int) -> bytes:
    return length.to_bytes(4, "big")


_SHORT = 256
_LENGTHS = tuple(map(_length, range(_SHORT)))


_USUAL = _prefix(DEFAULT_KEY_SPEC)


def _key_hash_begun(topic: str) -> blake2b:
    """The hash of a key by the usual recipe, up to the id."""
    return blake2b(_USUAL + _with_length(topic.encode()), digest_size=KEY_SIZE)


_known_topic = lru_cache(1024)(_key_hash_begun)


_DIGEST_VERSION = b"\x01"
_DIGEST_SIZE = 16
DIGEST_SIZE = len(_DIGEST_VERSION) + _DIGEST_SIZE
"""Bytes of a digest."""


class PayloadKind(Enum):
    """What a payload is. Only a CloudEvent's may be anything but JSON."""

    JSON = 0
    BYTES = 1
    NOTHING = 2


def digest_of(source: str, payload: bytes, form: PayloadKind = PayloadKind.JSON) -> bytes:
    """A version byte and blake2b (16 bytes) over the content as it was sent.

    Equal digests mean equal contents; unequal ones may still be spellings of the same JSON
    values, which `JsonValue` decides.
    """
    if form is _JSON and len(source) <= _LONGEST_KNOWN:
        content = _known_source(source).copy()
    else:
        content = _digest_begun(source, form)
    content.update(payload)
    return _DIGEST_VERSION + content.digest()


_JSON = PayloadKind.JSON  # looked up once: enumerations take their time, and to hash them more
_PERSONS = {PayloadKind.JSON: b"", PayloadKind.BYTES: b"bytes", PayloadKind.NOTHING: b"nothing"}


def _digest_begun(source: str, form: PayloadKind = PayloadKind.JSON) -> blake2b:
    encoded = source.encode()
    length = len(encoded).to_bytes(4, "big")
    return blake2b(length + encoded, digest_size=_DIGEST_SIZE, person=_PERSONS[form])


_known_source = lru_cache(1024)(_digest_begun)


def is_damaged(source: str, payload: bytes | None, digest: bytes, form: PayloadKind) -> bool:
    """Whether what was read back is not what the digest was made of; a payload may be gone."""
    return payload is not None and digest_of(source, payload, form) != digest
