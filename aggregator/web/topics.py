"""Reads which topics there are, and what is stored on them."""

from dataclasses import dataclass

from aiohttp import web

from aggregator.web import answer
from aggregator.web.arguments import load
from aggregator.web.query import TopicsSchema
from aggregator.web.sending import Sender
from aggregator.web.turn import Turn


@dataclass(frozen=True)
class Topics:
    """The handler, and what it needs."""

    turn: Turn
    sender: Sender

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [web.get("/topics", self.topics)]

    async def topics(self, request: web.Request) -> web.StreamResponse:
        """A page of topics, by name."""
        wanted = load(TopicsSchema(), request.query)
        async with self.turn.taken() as store:
            found = await store.topics(wanted.after, wanted.limit + 1)
        shown = found[: wanted.limit]
        following = shown[-1].name if len(found) > len(shown) else None
        return await self.sender.send(request, answer.topics(shown, following, request))
