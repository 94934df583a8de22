"""The contract of routes: calls over HTTP that a package adds to those of the service.

Derive from `Routes` and register the class in the entry-point group `aggregator.routes`. What is
installed is served, described in `/openapi.json`, and passes the same middleware as every other
call: an error of `aggregator.errors` becomes a problem with its status, any other one is logged
and answered 500, and pages of origins that are not listed may change nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from aggregator.config import Settings
from aggregator.store import Store

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

    @property
    def template(self) -> str:
        """The path without patterns, as OpenAPI spells it."""
        return web.DynamicResource(self.path).canonical


@dataclass(frozen=True)
class RouteContext:
    """What handlers are lent. All of it is bounded, so that no reader costs others their memory."""

    settings: Settings
    store: Callable[[], AbstractAsyncContextManager[Store]]
    """`async with context.store() as store:` waits for a turn to read one page of the store.

    Raises QueueFull while too much waits to be sent.
    """
    send: Callable[[web.Request, web.Response], Awaitable[web.StreamResponse]]
    """Sends an answer piece by piece if it is large; a client that does not read is cut off."""
    check_room: Callable[[], None]
    """Raises QueueFull if too much waits to be sent already."""


class Routes(ABC):
    """Some routes of a package. The constructor opens nothing."""

    def __init__(self, context: RouteContext) -> None:
        self.context = context

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """The routes, in the order in which a request is held against them."""
