"""`POST /publish`: takes events, and answers when each is stored or told why it is not."""

import uuid
from dataclasses import dataclass

from aiohttp import web

from aggregator import timestamp, verdict
from aggregator.budget import Budget
from aggregator.decode import Arrival
from aggregator.event import Submission
from aggregator.intake import Intake
from aggregator.receiving import Receiver
from aggregator.sending import Sender


@dataclass(frozen=True)
class Publishing:
    """The handler, and what it needs."""

    receiver: Receiver
    intake: Intake
    budget: Budget
    sender: Sender

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [web.post("/publish", self.publish)]

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Take events; answer when each is stored, or tell why it is not."""
        self.intake.check_ready()
        self.sender.check_room()
        arrival = Arrival(uuid.uuid4().hex, timestamp.now())
        with self.budget.share() as share:
            events = await self.receiver.receive(request, arrival, share)
            submission = Submission(arrival.submission, events)
            answer = verdict.of(await self.intake.take(submission, share))
        return await self.sender.send(request, answer)
