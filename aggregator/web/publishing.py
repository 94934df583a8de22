"""`POST /publish`: takes events, and answers when each is stored or told why it is not."""

import re
from dataclasses import dataclass

from aiohttp import web
from multidict import istr

from aggregator.api.request.decoder import RequestContext
from aggregator.api.request.receiver import Receiver
from aggregator.core import timestamp
from aggregator.core.budget import ByteBudget
from aggregator.errors import Unparsable
from aggregator.event import Submission
from aggregator.pipeline.intake import Intake, new_submission_id
from aggregator.web import verdict
from aggregator.web.preferences import NONE, Preferences
from aggregator.web.sending import Sender

_PREFER = istr("Prefer")
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what aiohttp makes of such bytes


@dataclass(frozen=True)
class Publishing:
    """The handler, and what it needs."""

    receiver: Receiver
    intake: Intake
    budget: ByteBudget
    sender: Sender

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [web.post("/publish", self.publish)]

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Take events; answer when each is stored, or tell why it is not."""
        self.intake.check_ready()
        self.sender.check_room()
        preferences = Preferences.of(request.headers.getall(_PREFER, ()))
        with self.budget.reserve() as reservation:
            headers = self._key_headers(request)
            context = RequestContext(new_submission_id(), timestamp.now(), headers)
            submission = Submission(
                context.submission,
                await self.receiver.receive(request, context, reservation),
                is_strict=preferences.is_strict,
                respond_async=preferences.is_async,
                headers=headers,
            )
            settled = await self.intake.take(submission, reservation)
        if preferences.is_async:
            answer = verdict.later(submission)
        else:
            answer = verdict.of(settled, is_minimal=preferences.is_minimal)
        if preferences is not NONE:
            answer.headers.update(preferences.applied)
        return await self.sender.send(request, answer)

    def _key_headers(self, request: web.Request) -> dict[str, str]:
        if not (wanted := self.receiver.decoder.policies.headers):
            return {}
        sent = {
            name: ", ".join(request.headers.getall(name))
            for name in wanted
            if name in request.headers
        }
        for name, value in sent.items():
            if _NOT_UTF8.search(value):
                raise Unparsable(f"The header {name}, which keys are made of, is not UTF-8.")
        return sent
