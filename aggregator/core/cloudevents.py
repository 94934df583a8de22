"""What the decoder and the schema of a CloudEvent both ask of its data."""

import base64
from collections.abc import Mapping
from typing import Any


def has_data_twice(members: Mapping[str, Any]) -> bool:
    """Whether it has both JSON and bytes as its data; null is neither beside the other."""
    return members.get("data") is not None and members.get("data_base64") is not None


def is_base64(encoded: object) -> bool:
    """Whether it is text that stands for bytes (RFC 4648, 4)."""
    if not isinstance(encoded, str):
        return False
    try:
        base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    return True
