"""Who sends a request: its token is looked up before the call that it asks for is run."""

from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta
from multidict import istr

from aggregator.access import ACCESS, EVERYTHING, Access
from aggregator.api.responses import Answer, DateTime, json_response
from aggregator.core.tokens import Scope
from aggregator.errors import InvalidToken, Unauthorized
from aggregator.route import Handler, Route
from aggregator.token_file import TokenFile

_AUTHORIZATION = istr("Authorization")
_NO_STORE = {"Cache-Control": "no-store"}  # true for this moment only
_HOW = "Send one as Authorization: Bearer agg_…; `aggregator token new` makes them."


class Authenticator:
    """Looks tokens up, and keeps from calls those who have none for them.

    Without a file of tokens everybody may do everything.
    """

    def __init__(self, file: TokenFile | None) -> None:
        self.file = file

    def guard(self, route: Route) -> Handler:
        """The route's handler, for those who may call it; as it is where everybody may."""
        file, scope = self.file, route.scope
        if file is None or scope is None:
            return route.handler

        async def guarded(request: web.Request) -> web.StreamResponse:
            request[ACCESS] = access = _access(request, file)
            access.check(scope)
            return await route.handler(request)

        return guarded

    async def whoami(self, request: web.Request) -> web.StreamResponse:
        """What the token of this request is for."""
        access = _access(request, self.file) if self.file else EVERYTHING
        return json_response(_who(access), headers=_NO_STORE)


def _access(request: web.Request, file: TokenFile) -> Access:
    text = _bearer(request)
    token, end = file.index.find(text)

    def is_current() -> bool:
        if end is not None and datetime.now(UTC) >= end:
            return False
        try:
            return file.index.find(text)[0] == token  # what it may do is as it was
        except InvalidToken:
            return False

    return Access(token, is_current, end)


def _bearer(request: web.Request) -> str:
    """The token that the request has (RFC 6750, 2.1). Raises Unauthorized."""
    headers = request.headers.getall(_AUTHORIZATION, ())
    if not headers:
        raise Unauthorized(f"This call asks for a token. {_HOW}")
    scheme, _, text = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer":
        raise Unauthorized(f"What Authorization has is no token. {_HOW}")
    return text.strip()


class WhoAmI(Answer, kw_only=True):
    """What the token of a request is for."""

    name: Annotated[str | None, Meta(description="Its name; null where no tokens are in force.")]
    scopes: Annotated[list[str], Meta(description="The calls that it is for.")]
    topics: Annotated[list[str], Meta(description="Names, and prefixes with * last.")]
    source: Annotated[str | None, Meta(description="The only source that its events may have.")]
    expires: Annotated[DateTime | None, Meta(description="When it ends.")]


def _who(access: Access) -> WhoAmI:
    token = access.token
    return WhoAmI(
        name=token.name if token else None,
        scopes=list(map(str, token.scopes if token else Scope)),
        topics=list(access.topics),
        source=token.source if token else None,
        expires=f"{access.end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if access.end else None,
    )
