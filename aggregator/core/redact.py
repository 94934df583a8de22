"""Keeps secrets out of what people see."""

import re
from collections.abc import Mapping

_HIDDEN = "…"
_USER = re.compile(r"(?<=//)\S*(?=@)")
_ARGUMENT = re.compile(r"([?&][^=&#]*=)[^&#]*")
_SECRET = re.compile("pass|pwd|auth|secret|token|key|credential", re.IGNORECASE)
_NAMED = re.compile(rf"((?:{_SECRET.pattern})\w*\s*=\s*)\S+", re.IGNORECASE)


_CREDENTIALS = re.compile(r"(?<=authorization:)[^'\"]*|\bagg_\w+", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """What somebody has sent, without what lets them in: tokens, and what Authorization has.

    >>> without_credentials("b'Authorization: Basic YTpi' for /events/agg_ab_cd")
    "b'Authorization:…' for /events/…"
    """
    return _CREDENTIALS.sub(_HIDDEN, text)


def redact(name: str, value: object) -> str:
    """The value for people to see: a URL without user and arguments, a secret not at all.

    What the name says is asked of strangers' settings only: none of ours is a secret.
    """
    if _SECRET.search(name):
        return _HIDDEN
    if isinstance(value, Mapping):
        inner = (f"{key} = {redact(str(key), one)}" for key, one in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list):
        return f"[{', '.join(redact(name, one) for one in value)}]"
    shown = _ARGUMENT.sub(rf"\1{_HIDDEN}", _USER.sub(_HIDDEN, str(value)))
    return _NAMED.sub(rf"\1{_HIDDEN}", shown)
