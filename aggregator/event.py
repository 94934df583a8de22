"""The event on its way through the pipeline, and the submission it came with."""

from enum import Enum

import msgspec
from msgspec.structs import force_setattr

from aggregator.outcome import Outcome


class Pending(Enum):
    """Where an event stands that has no outcome yet."""

    GOING = "going"  # on its way
    WAITING = "waiting"  # put back by a stage until the events around it are settled


class Event(msgspec.Struct, frozen=True):
    """One event as a publisher sent it. Stages settle it; nobody changes it.

    An event that lacks the shape of one (`malformed` says why) never passes the bar; its other
    members are empty and `received` holds it as it came, for a stage that can say more about it.
    """

    index: int  # its place in the submission, from 0
    submission: str  # the id of the submission
    received_at: int  # when it arrived, in microseconds since 1970 (UTC)
    topic: str = ""
    event_id: str = ""
    timestamp: str = ""  # ISO 8601 with offset, spelled as it came
    source: str = ""
    payload: bytes = b""  # a JSON object, byte for byte as it came
    key: bytes = b""
    digest: bytes = b""
    malformed: str = ""
    received: bytes = b""
    verdict: Outcome | Pending = Pending.GOING

    @property
    def outcome(self) -> Outcome | None:
        """What became of the event, or None while that is open."""
        return self.verdict if isinstance(self.verdict, Outcome) else None

    def settle(self, outcome: Outcome) -> None:
        """Keep the event back, with what became of it. Raises ValueError if it has an outcome."""
        if self.outcome is not None:
            raise ValueError(f"event {self.index} is {self.outcome.status} already")
        force_setattr(self, "verdict", outcome)

    def wait(self) -> None:
        """Keep the event back until the events beside it are settled.

        It then comes to the same stage again. So a stage whose answer depends on what becomes
        of another event of the same batch need not guess.
        """
        if self.outcome is not None:
            raise ValueError(f"event {self.index} is {self.outcome.status} already")
        force_setattr(self, "verdict", Pending.WAITING)

    def reopen(self) -> None:
        """Forget the verdict, which was rolled back or is due again. For the pipeline."""
        force_setattr(self, "verdict", Pending.GOING)


class Submission(msgspec.Struct, frozen=True):
    """The events of one request, settled or not: plain data, which a queue may send elsewhere."""

    id: str
    events: list[Event]
