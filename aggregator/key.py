"""What makes two events the same.

Both hashes here are written into every store. Changing either makes stored events new, so they
carry a version, and the recipe's name is kept in the store and compared at every start.
"""

from hashlib import blake2b

RECIPE = "topic,event_id"
"""The key's recipe: which members of an event make up its key, in order."""

_SIZE = 16


def key_of(topic: str, event_id: str) -> bytes:
    """The event's key: blake2b, 16 bytes, over version, recipe and length-prefixed parts.

    A cryptographic hash, because whoever can forge a collision can make an event disappear.
    """
    parts = blake2b(_PREFIX, digest_size=_SIZE)
    for part in (topic.encode(), event_id.encode()):
        parts.update(len(part).to_bytes(4, "big") + part)
    return parts.digest()


_PREFIX = b"\x01" + len(RECIPE).to_bytes(4, "big") + RECIPE.encode()
