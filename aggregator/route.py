"""The contract of routes: calls over HTTP that a package adds to those of the service.

Derive from `Routes` and register the class in the entry-point group `aggregator.routes`. What is
installed is served, described in `/openapi.json`, and passes the same middleware as every other
call: an error of `aggregator.errors` becomes a problem with its status, any other one is logged
and answered 500, and pages of origins that are not listed may change nothing.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from aiohttp import web

from aggregator.access import access_of
from aggregator.config import Settings
from aggregator.core.metrics import Gauges, Metrics
from aggregator.core.tokens import Scope
from aggregator.store import Store

__all__ = [
    "NO_CACHE",
    "Handler",
    "Route",
    "RouteContext",
    "Routes",
    "Scope",
    "StaticResponse",
    "access_of",
    "matches_etag",
]

_ENTITY_TAG = re.compile(r'"[^"]*"')

NO_CACHE = {"Cache-Control": "no-cache"}
"""For what may be kept, but is to be asked for again each time."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Route:
    """One call. `GET` answers `HEAD` as well, and `OPTIONS` is answered everywhere."""

    method: str
    path: str
    """As aiohttp takes it: `/events/{topic}`, `/quarantine/{id:[0-9]+}`."""
    handler: Handler
    """Its docstring is the summary of the call, and what follows the first line its description."""
    operation: Mapping[str, Any] = field(default_factory=dict)
    """The operation as OpenAPI 3.1 describes it.

    A struct of msgspec, one that does not omit defaults, stands for the schema of an answer, and a
    schema of marshmallow for parameters: `{"in": "query", "schema": Parameters}`. Problems and
    headers that the service describes are referred to by name: `{"404": "404"}`,
    `{"headers": {"ETag": "ETag"}}`.
    """
    needs: type | None = None
    """What a store must be an instance of for the route to be there; None if any will do."""
    scope: Scope | None = Scope.ADMIN
    """What a token must be for, where tokens are in force; None lets everybody in.

    What the token may do beyond that, on which topics say, tells `access_of(request)`.
    """

    def __post_init__(self) -> None:
        """Raises ValueError if the path does not begin with a slash."""
        if not self.path.startswith("/"):
            raise ValueError(f"the path {self.path!r} should begin with /")

    @property
    def template(self) -> str:
        """The path without patterns, as OpenAPI spells it."""
        return web.DynamicResource(self.path).canonical


@dataclass(frozen=True)
class RouteContext:
    """What handlers are lent. All of it is bounded, so that no reader costs others their memory."""

    settings: Settings
    store: Callable[[web.Request], AbstractAsyncContextManager[Store]]
    """`async with context.store(request) as store:` waits for a turn to read one page of the store.

    Raises QueueFull while too much waits to be sent, to all or to this client. Whoever keeps it for
    more than `answer_timeout` is interrupted by a TimeoutError.
    """
    send: Callable[[web.Request, web.Response], Awaitable[web.StreamResponse]]
    """Sends an answer piece by piece if it is large; a client that does not read is cut off."""
    metrics: Metrics
    """What this process has counted since its start."""
    gauges: Callable[[], Gauges]
    """How things are now; asks nothing of the database."""
    check_room: Callable[[web.Request], None]
    """Raises QueueFull if too much waits to be sent already, to all or to this client."""


class Routes(ABC):
    """Some routes of a package. The constructor opens nothing."""

    def __init__(self, context: RouteContext) -> None:
        self.context = context

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """The routes, in the order in which a request is held against them."""


def matches_etag(request: web.Request, etag: str) -> bool:
    """Whether `If-None-Match` names that ETag, compared weakly."""
    said = ",".join(request.headers.getall("If-None-Match", ()))
    return said.strip() == "*" or etag in _ENTITY_TAG.findall(said)


@dataclass(frozen=True)
class StaticResponse:
    """An answer that stays the same as long as the service runs, with an ETag."""

    body: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def etag(self) -> str:
        """A hash of the body."""
        return f'"{blake2b(self.body, digest_size=16).hexdigest()}"'

    def respond(self, request: web.Request) -> web.Response:
        """The answer; 304 if the client has it already."""
        headers = {**self.headers, "ETag": self.etag, **NO_CACHE}
        if matches_etag(request, self.etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, headers=headers, content_type=self.media_type)
