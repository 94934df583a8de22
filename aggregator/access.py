"""What a request may do: everything where no tokens are in force, else what its token says."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from aggregator.core.quoting import quoted
from aggregator.core.tokens import EVERYTHING as ALL_TOPICS
from aggregator.core.tokens import Scope, Token
from aggregator.errors import InsufficientScope, InvalidToken


def _for_ever() -> bool:
    return True


@dataclass(frozen=True)
class Access:
    """What the client of one request may do."""

    token: Token | None = None
    """None where no tokens are in force: then it may do everything."""
    is_current: Callable[[], bool] = _for_ever
    """Whether that still holds. Ask again in an answer without end: a token expires, is revoked."""
    end: datetime | None = None
    """When it ends, if ever."""

    def check_current(self) -> None:
        """Raise InvalidToken where that holds no more."""
        if not self.is_current():
            assert self.token
            raise InvalidToken(f"The token {self.token.name} has expired, or is another one now.")

    def has(self, scope: Scope) -> bool:
        """Whether it is for calls of that scope."""
        return self.token is None or scope in self.token.scopes

    def check(self, scope: Scope) -> None:
        """Raise InsufficientScope unless it is for calls of that scope."""
        if not self.has(scope):
            assert self.token
            raise InsufficientScope(
                f"The token {self.token.name} has no scope {scope}, which this call asks for."
            )

    @property
    def is_of_all_topics(self) -> bool:
        """Whether no topic is kept from it."""
        return self.token is None or self.token.is_of_all_topics

    def covers(self, topic: str) -> bool:
        """Whether it is for events on that topic."""
        return self.token is None or self.token.covers(topic)

    @property
    def is_pinned(self) -> bool:
        """Whether its events can have one source only."""
        return self.token is not None and self.token.source is not None

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of topics, and prefixes with `*` at the end, that it is for."""
        return self.token.topics if self.token else (ALL_TOPICS,)

    def check_topic(self, topic: str) -> None:
        """Raise InsufficientScope unless it is for events on that topic."""
        if why := self.why_not(topic):
            raise InsufficientScope(why)

    def reads(self, topic: str) -> bool:
        """Whether it may learn what is stored on that topic."""
        return self.has(Scope.READ) and self.covers(topic)

    def why_not(self, topic: str, source: str | None = None) -> str:
        """Why it is not for an event on that topic, and of that source; empty if it is."""
        if self.token is None:
            return ""
        if not self.covers(topic):
            return f"The token {self.token.name} is not for the topic {quoted(topic)}."
        if source is not None and self.token.source not in (None, source):
            return f"The token {self.token.name} is not for the source {quoted(source)}."
        return ""


EVERYTHING = Access()

ACCESS = web.RequestKey("ACCESS", Access)


def access_of(request: web.BaseRequest) -> Access:
    """What the request may do."""
    access: Access = request.get(ACCESS, EVERYTHING)
    return access
