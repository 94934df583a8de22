"""Tokens: who may do what. A file keeps their hashes, and nothing that lets anybody in.

A token reads `agg_<id>_<secret>_<checksum>`. By the id it is found in the file. The secret is some
256 random bits, so a quick hash of it is enough: a slow one helps only what can be guessed. The
checksum tells a typo from a token that is not known, and the prefix lets scanners find what leaked.
"""

import hmac
import re
import secrets
import string
import zlib
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from aggregator.errors import InvalidToken

EVERYTHING = "*"
"""The pattern of all topics."""

_PREFIX = "agg"
_ALPHABET = string.ascii_letters + string.digits
_ID, _SECRET = 10, 43  # characters; 43 of 62 kinds are 256 bits
_FORM = re.compile(rf"{_PREFIX}_([A-Za-z0-9]{{{_ID}}})_([A-Za-z0-9]{{{_SECRET}}})_([0-9a-f]{{8}})")
_VERSION = 1  # of the file
_LARGEST = 1e15  # of a rate or burst: JSON has no infinity, and it would be lost in the file

Name = Annotated[
    str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\\Z")
]  # no $: that lets a newline pass
Rate = Annotated[float, Meta(ge=0, le=_LARGEST)]
Moment = Annotated[datetime, Meta(tz=True)]


class Scope(StrEnum):
    """What a call asks of a token."""

    PUBLISH = "publish"
    READ = "read"
    QUARANTINE = "quarantine"
    ADMIN = "admin"
    METRICS = "metrics"


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One secret of a token; it has two while it is rotated."""

    id: Annotated[str, Meta(pattern=f"^[A-Za-z0-9]{{{_ID}}}$")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    expires: Moment | None = None


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What its holder may do.

    `topics` are exact names, or prefixes that end with `*`. Where there is a `source`, events of
    any other are refused.
    """

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    secrets: Annotated[list[Secret], Meta(min_length=1)]
    topics: Annotated[tuple[str, ...], Meta(min_length=1)] = (EVERYTHING,)
    source: str | None = None
    expires: Moment | None = None
    rate_events: Rate | None = None
    """Events a second, instead of what the setting of that name says; 0 is no limit."""
    rate_bytes: Rate | None = None
    burst: Annotated[float, Meta(gt=0, le=_LARGEST)] | None = None
    """Seconds of these rates that may come at once."""

    def __post_init__(self) -> None:
        """Raises ValueError where a pattern is none."""
        for pattern in self.topics:
            if not pattern or "*" in pattern[:-1]:
                raise ValueError(
                    f"{pattern!r} is no pattern of topics: one is a name, or a prefix and a * last"
                )

    @property
    def is_of_all_topics(self) -> bool:
        """Whether no topic is kept from it."""
        return EVERYTHING in self.topics

    def covers(self, topic: str) -> bool:
        """Whether one of its patterns is of that topic."""
        return any(
            topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern
            for pattern in self.topics
        )

    def end_of(self, secret: Secret) -> datetime | None:
        """When it ends for whoever holds that secret of it; None for never."""
        return min(filter(None, (self.expires, secret.expires)), default=None)


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tokens, as the file has them. To be made by `of`, which checks that they agree."""

    tokens: list[Token]
    version: Annotated[int, Meta(ge=_VERSION, le=_VERSION)] = _VERSION

    @classmethod
    def decode(cls, text: bytes) -> "Tokens":
        """Read a file's content. Raises ValueError, which says what is wrong where."""
        found = _decoder.decode(text)
        names = [token.name for token in found.tokens]
        ids = [secret.id for token in found.tokens for secret in token.secrets]
        for what, all_of_them in (("name", names), ("id of a secret", ids)):
            if twice := [one for one, times in Counter(all_of_them).items() if times > 1]:
                raise ValueError(f"the {what} {min(twice)} stands there twice")
        return found

    def encode(self) -> bytes:
        """The content of a file that has them, for people to read too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def named(self, name: str) -> Token | None:
        """The token of that name, if there is one."""
        return next((token for token in self.tokens if token.name == name), None)

    def with_token(self, token: Token) -> "Tokens":
        """These and that one, in place of the one of its name if there is one."""
        others = [other for other in self.tokens if other.name != token.name]
        return replace(self, tokens=sorted([*others, token], key=lambda one: one.name))

    def without(self, name: str) -> "Tokens":
        """These, but for the one of that name."""
        return replace(self, tokens=[token for token in self.tokens if token.name != name])


_decoder = msgspec.json.Decoder(Tokens)


class TokenIndex:
    """Finds the tokens of a file by what their holders send."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._by_id = {secret.id: (token, secret) for token in tokens for secret in token.secrets}

    def find(self, text: str, now: datetime | None = None) -> tuple[Token, datetime | None]:
        """The token, and when it ends, if ever. Raises InvalidToken, which says why not.

        Takes as long whatever is wrong with the secret.
        """
        match = _FORM.fullmatch(text)
        if not match:
            raise InvalidToken("This is no token: one begins with agg_, and has three parts more.")
        id_, secret, checksum = match.groups()
        if checksum != _checksum(id_, secret):
            raise InvalidToken("The token has a typo: its checksum is another one.")
        token, kept = self._by_id.get(id_, (None, None))
        known = kept.sha256 if kept else ""
        is_right = hmac.compare_digest(sha256(secret.encode()).hexdigest(), known)
        if token is None or kept is None or not is_right:
            raise InvalidToken("The token is not known here; it may have been revoked.")
        end = token.end_of(kept)
        if end is not None and (now or datetime.now(UTC)) >= end:
            raise InvalidToken(f"The token has expired, at {end.isoformat()}.")
        return token, end


def new_secret(expires: datetime | None = None) -> tuple[Secret, str]:
    """A new secret as it is kept, and the text of the token, which is kept nowhere."""
    id_, secret = (
        "".join(secrets.choice(_ALPHABET) for _ in range(size)) for size in (_ID, _SECRET)
    )
    kept = Secret(id_, sha256(secret.encode()).hexdigest(), expires)
    return kept, f"{_PREFIX}_{id_}_{secret}_{_checksum(id_, secret)}"


def rotated(token: Token, secret: Secret, until: datetime) -> Token:
    """The token with that secret; those that it had end by then, and what has ended is gone."""
    now = datetime.now(UTC)
    ends = [(one, min(filter(None, (one.expires, until)))) for one in token.secrets]
    kept = [replace(one, expires=end) for one, end in ends if end > now]
    return replace(token, secrets=[*kept, secret])


def _checksum(id_: str, secret: str) -> str:
    return f"{zlib.crc32(f'{_PREFIX}_{id_}_{secret}'.encode()):08x}"
